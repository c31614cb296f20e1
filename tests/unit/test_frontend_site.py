# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site is seen to serve, its certificate, and the settings that are refused."""

from __future__ import annotations

import functools
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site as frontend_site
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.site import Site, commit_of
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import UsageError
from builders import make_config
from forge_lab import Site as Handler
from forge_lab import stand_in

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("marker", "text", "commit"),
    [
        ("version.json", f'{{"commit": "{SHA}"}}', SHA),
        ("version.json", f'{{"commit": "{SHA[:7].upper()}"}}', SHA[:7]),
        ("build.json#git.sha", f'{{"git": {{"sha": "{SHA}"}}}}', SHA),
        ("build.json#git.sha", '{"git": "no mapping"}', ""),
        ("version.json", '{"version": "1.2"}', ""),
        ("version.json", "<html>not found</html>", ""),
        ("version.json", "[1]", ""),
        ("index.html", f'<html><meta name="commit" content="{SHA}"><meta name="x" content="y">', SHA),
        ("index.html#revision", f'<meta content="{SHA}" name="revision">', SHA),
        ("index.html", f"<p>commit {SHA}</p>", ""),
        ("version.txt", f" {SHA}\n", SHA),
        ("version.txt", "main", ""),
        ("version.txt", "abc123", ""),
    ],
)
def test_the_commit_a_marker_tells(marker: str, text: str, commit: str) -> None:
    assert commit_of(marker, text.encode()) == commit


def test_what_serves_a_commit() -> None:
    assert Site(200, SHA[:9]).serves(SHA)
    assert not any((Site(200, SHA).serves(""), Site(200, "").serves(SHA), Site(404, SHA).serves(SHA)))
    assert not Site(200, "f" * 7).serves(SHA)


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = stand_in.serve(0, functools.partial(Handler, directory=str(root)), "127.0.0.1")  # type: ignore[arg-type]
        self.port = self.server.server_address[1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "site").mkdir()
    made = World(tmp_path / "site")
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_look_at_a_site(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}"
    (world.root / "index.html").write_text("x")
    assert frontend_site.probe(url, "version.txt") == Site(200, "", f"{url}/version.txt answers 404", None)
    (world.root / "version.txt").write_text("later")
    assert "tells no commit" in frontend_site.probe(url, "version.txt").problem
    (world.root / "version.txt").write_text(SHA)
    assert frontend_site.probe(url, "version.txt") == Site(200, SHA, "", None)
    (world.root / "index.html").unlink()
    world.root.rename(world.root.with_name("gone"))
    assert frontend_site.probe(url, "version.txt").status == 404
    nobody = frontend_site.probe("http://127.0.0.1:9", "version.txt")
    assert (nobody.status, nobody.up) == (0, False) and "refused" in nobody.problem


def certificate(folder: Path, days: int) -> Path:
    path = folder / f"{days}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
         str(days), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path),
         "-out", str(path.with_suffix(".crt"))],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.mark.parametrize(("days", "problem"), [(90, ""), (3, "its certificate ends in")])
def test_how_long_a_certificate_is_good(world: World, tmp_path: Path, days: int, problem: str) -> None:
    made = certificate(tmp_path, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made)
    world.server.socket = context.wrap_socket(world.server.socket, server_side=True)
    (world.root / "index.html").write_text("x")
    (world.root / "version.txt").write_text(SHA)
    url = f"https://localhost:{world.port}/"
    site = frontend_site.probe(url, "version.txt", ca_bundle=str(made.with_suffix(".crt")))
    assert (site.commit, site.certificate_days) == (SHA, days - 1)
    assert site.problem.startswith(problem) and bool(site.problem) == bool(problem)
    distrusted = frontend_site.probe(url, "version.txt")
    assert not distrusted.up and "certificate" in distrusted.problem.lower()


def test_waiting_says_what_is_missing_and_ends() -> None:
    said: list[str] = []
    answers: list[Any] = ["queued", "queued", "in progress", None]
    wait = functools.partial(frontend_site.wait_until, pause=0.001, log=said.append, waiting_for="run 1")
    assert wait(lambda: answers.pop(0), 5)
    assert said == ["waiting for run 1: queued", "waiting for run 1: in progress"]
    assert not wait(lambda: "queued", 0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"repository": "shop"}, "is not owner/name"),
        ({"url": "www.shop.test"}, "http or https addresses"),
        ({"api_url": "https://me:hunter2@api.github.com"}, "without a password"),
        ({"remote_url": "https://x:hunter2@github.com/acme/shop.git"}, "give github_token in secrets"),
        ({"remote_url": "--upload-pack=x"}, "is not an address"),
        ({"directory": "../backend"}, "not a plain relative name"),
        ({"branch": "-f"}, "not a plain relative name"),
        ({"output": "/etc"}, "not a plain relative name"),
        ({"build": []}, "a list of commands"),
        ({"build": ["npm ci"]}, "wants a list"),
        ({"timeout": 0}, r"frontend.timeout.*is not between 1 and"),
        ({"fallback": {"directory": "/srv/x"}}, "url is missing"),
        ({"fallback": {"directory": "/srv", "url": "http://x/"}}, "not an absolute path below a directory"),
        ({"fallback": {"directory": "srv/x", "url": "http://x/"}}, "not an absolute path below a directory"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, setting: dict[str, Any], words: str) -> None:
    good = {"url": "https://www.shop.test/", "repository": "acme/shop"}
    assert make_config(tmp_path, frontend=good).frontend.branch == "main"
    with pytest.raises(UsageError, match=words) as error:
        make_config(tmp_path, frontend={**good, **setting})
    assert "hunter2" not in str(error.value)
