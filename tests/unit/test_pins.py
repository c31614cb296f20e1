# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/supply/pins.py: each image has a digest or a reason, and a digest is of what the registry sent."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/supply"))
import pins  # noqa: E402

DIGEST = "@sha256:" + "a" * 64
# (a file's name, its text, the images in it)
NAMED: dict[str, tuple[str, str, list[str]]] = {
    "compose": ("compose.yml", "  db:\n    image: postgres:17\n", ["postgres:17"]),
    "with a digest": ("compose.yml", f'    image: "quay.io/a/b:1{DIGEST}" # why\n', [f"quay.io/a/b:1{DIGEST}"]),
    "a default": ("compose.yml", "    image: ${SHOP:-registry:5000/shop:1}\n", ["registry:5000/shop:1"]),
    "a setting": ("main.yml", "  verify_image: postgres\n", ["postgres"]),
    "a comment": ("main.yml", "#   builder_image: node:24 # or none\n", ["node:24"]),
    "a builder": ("ee.yml", "  base_image:\n    name: quay.io/fedora/fedora:42\n", ["quay.io/fedora/fedora:42"]),
    "empty": ("main.yml", 'awx_image: ""\nx_image: "{{ y }}"\n', []),
    "stages": ("Dockerfile", "FROM debian:13 AS x\nCOPY --from=node:24 /a /b\n", ["debian:13", "node:24"]),
    "code": ("lab.py", 'UPSTREAM = "debian:trixie-slim"\n', ["debian:trixie-slim"]),
}
NAMES = {
    "debian": ("registry-1.docker.io", "library/debian", "latest"),
    "debian:13": ("registry-1.docker.io", "library/debian", "13"),
    "grafana/k6:1@sha256:0": ("registry-1.docker.io", "grafana/k6", "1"),
    "quay.io/fedora/fedora:42": ("quay.io", "fedora/fedora", "42"),
    "localhost:5000/a": ("localhost:5000", "a", "latest"),
}
MANIFEST = b'{"schemaVersion": 2}'
OF_MANIFEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.split("/")[2]
        status = {"missing": 404, "closed": 401}.get(name, 200)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="http://other.invalid/token",service="x"')
        self.send_header("Docker-Content-Digest", f"sha256:{'0' * 64}" if name == "lying" else OF_MANIFEST)
        self.end_headers()
        self.wfile.write(MANIFEST if status == 200 else b"")

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("case", NAMED)
def test_images_are_found_where_they_are_named(case: str) -> None:
    path, text, expected = NAMED[case]
    assert list(pins.named(path, text)) == expected


@pytest.mark.parametrize("image", NAMES)
def test_a_name_is_completed_as_docker_does_it(image: str) -> None:
    assert pins.where(image) == NAMES[image]


def test_an_image_without_a_digest_needs_a_reason_and_a_reason_an_image() -> None:
    reasons = {"by_choice": {"lab/*": "built here"}, "waiting": {"debian:13": "no answer yet"}}
    images = {"lab/db:1": "a.yml", "debian:13": "b.py", f"node:24{DIGEST}": "c.yml"}
    assert pins.problems(images, reasons) == []
    assert pins.problems({**images, "node:24": "d.yml"}, reasons) == [
        "d.yml names node:24 without a digest: add it (@sha256:…), or a reason to unpinned.yml"
    ]
    assert "node:24@sha256:ab without" in pins.problems({**images, "node:24@sha256:ab": "d.yml"}, reasons)[0]
    del images["debian:13"]
    assert pins.problems(images, reasons) == ["unpinned.yml has a reason for debian:13, which nothing names: remove it"]
    assert pins.problems({"lab/db:1": "a.yml"}, {"by_choice": {"lab/*": ""}}) == [
        "unpinned.yml gives no reason for lab/*"
    ]


def test_the_images_here_have_digests_or_reasons(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pins.py", "--check"])
    assert pins.main() == 0, capsys.readouterr().err
    assert "debian:trixie-slim" in {
        image.partition("@")[0] for name, text in pins.files() for image in pins.named(name, text)
    }


def test_an_image_that_nobody_pinned_fails_the_check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make lint` runs, over all of the project's files and one more."""
    every = [*pins.files(), ("planted/compose.yml", "services:\n  web:\n    image: nginx:1.29\n")]
    monkeypatch.setattr(pins, "files", lambda: iter(every))
    monkeypatch.setattr(sys, "argv", ["pins.py", "--check"])
    assert pins.main() == 1
    assert "planted/compose.yml names nginx:1.29 without a digest" in capsys.readouterr().err


def test_a_digest_is_that_of_what_the_registry_sent(registry: str) -> None:
    assert pins.digest_of(f"{registry}/good:1") == OF_MANIFEST


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing:1", "answered 404"), ("lying:1", "not the one of its"), ("closed:1", "a login that is not understood")],
)
def test_a_registry_that_does_not_give_the_document_gives_no_digest(registry: str, name: str, said: str) -> None:
    with pytest.raises(pins.RegistryError, match=said):
        pins.digest_of(f"{registry}/{name}")


def test_pin_writes_what_is_answered_and_says_what_is_not(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, missing = f"{registry}/good:1", f"{registry}/missing:1"
    compose = tmp_path / "compose.yml"
    compose.write_text(f"image: {good}\nimage: {good}2\nimage: {missing}\n")
    reasons = tmp_path / "unpinned.yml"
    reasons.write_text(f"by_choice:\nwaiting:\n  {good}: not yet\n  {missing}: not yet\n")
    monkeypatch.setattr(pins, "ROOT", tmp_path)
    monkeypatch.setattr(pins, "REASONS", reasons)
    monkeypatch.setattr(pins, "files", lambda: iter([("compose.yml", compose.read_text())]))
    monkeypatch.setattr(sys, "argv", ["pins.py"])
    assert pins.main() == 1
    assert compose.read_text() == f"image: {good}@{OF_MANIFEST}\nimage: {good}2\nimage: {missing}\n"
    assert reasons.read_text() == f"by_choice:\nwaiting:\n  {missing}: not yet\n"
    written, unanswered = capsys.readouterr().out.splitlines()
    assert written == f"{good}@{OF_MANIFEST}: written into compose.yml"
    assert unanswered.startswith(f"COULD_NOT_VERIFY  {missing}: http://{registry}/v2/missing/manifests/1 answered 404")
