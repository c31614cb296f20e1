# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/supply/collection.py: a commit built twice is the same file, and ansible-galaxy checks its signature."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/supply"))
import collection  # noqa: E402

KEY = "Releaser <release@example.org>"
# Of this test alone: on 127.0.0.1 another one's server once answered in this one's place.
HOST = "127.0.0.73"


def built(names: list[str], *, when: int, owner: int) -> bytes:
    """What ansible-galaxy makes of files that the system lists in that order, at that time."""
    files = [{"name": name, "chksum_sha256": hashlib.sha256(name.encode()).hexdigest()} for name in names]
    listed = json.dumps({"files": files, "format": 1}).encode()
    seal = {"name": "FILES.json", "chksum_sha256": hashlib.sha256(listed).hexdigest()}
    manifest = json.dumps({"collection_info": {"name": "dr"}, "file_manifest_file": seal}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in [
            ("MANIFEST.json", manifest),
            ("FILES.json", listed),
            *((name, name.encode()) for name in names),
        ]:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.mode = (
                len(content),
                when,
                owner,
                0o755 if name == "run" else 0o644,
            )
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_order_time_and_owner_leave_no_trace() -> None:
    first = collection.ordered(built(["b", "a", "run"], when=1, owner=0), 1_000_000)
    assert first == collection.ordered(built(["run", "a", "b"], when=2, owner=1000), 1_000_000)
    assert int.from_bytes(first[4:8], "little") == 1_000_000, "the time in the header of gzip"
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        members = {member.name: member for member in archive}
        contents = {name: collection.content_of(archive, name) for name in members}
    assert list(members) == ["MANIFEST.json", "FILES.json", "a", "b", "run"]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members.values()} == {
        (1_000_000, 0, 0, "")
    }
    assert (members["run"].mode, members["a"].mode, contents["run"]) == (0o755, 0o644, b"run")
    seal = json.loads(contents["MANIFEST.json"])["file_manifest_file"]["chksum_sha256"]
    assert seal == hashlib.sha256(contents["FILES.json"]).hexdigest()
    assert [entry["name"] for entry in json.loads(contents["FILES.json"])["files"]] == ["a", "b", "run"]


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A throwaway key in a home of its own; the way to the agent's socket must be short."""
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed: the signature of the collection is not checked")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    monkeypatch.setenv("GNUPGHOME", str(home))
    try:
        gpg("--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "never")
        (home / "releaser.gpg").write_bytes(gpg("--export", KEY))
        yield home / "releaser.gpg"
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def gpg(*words: str) -> bytes:
    return subprocess.run(["gpg", "--batch", "--quiet", *words], check=True, capture_output=True).stdout


class Galaxy(BaseHTTPRequestHandler):
    """A server that has one collection: what ansible-galaxy asks of version 3 of its API."""

    artefact: Path
    version = "0.1.0"

    def do_GET(self) -> None:
        here = f"http://{HOST}:{self.server.server_address[1]}"
        content = self.artefact.read_bytes()
        whole = {
            "namespace": {"name": "lifeboat"},
            "collection": {"name": "dr"},
            "name": "dr",
            "version": self.version,
            "href": f"/api/v3/collections/lifeboat/dr/versions/{self.version}/",
            "download_url": f"{here}/artefact.tar.gz",
            "artifact": {"sha256": hashlib.sha256(content).hexdigest()},
            "metadata": {"dependencies": {}},
            "signatures": [],
        }
        answers = {
            "/api/": {"available_versions": {"v3": "v3/"}},
            "/api/v3/collections/lifeboat/dr/": {"created_at": "2026-01-01", "updated_at": "2026-01-01"},
            "/api/v3/collections/lifeboat/dr/versions/": {
                "meta": {"count": 1},
                "links": {"next": None},
                "data": [whole],
            },
            f"/api/v3/collections/lifeboat/dr/versions/{self.version}/": whole,
        }
        path = self.path.partition("?")[0]
        body = content if path == "/artefact.tar.gz" else json.dumps(answers[path]).encode() if path in answers else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    served = ThreadingHTTPServer((HOST, 0), Galaxy)
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://{HOST}:{served.server_port}/api/"
    served.shutdown()
    served.server_close()


def install(server: str, signature: Path, keyring: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As docs/security.md says. From a file ansible-galaxy cannot do it: https://github.com/ansible/ansible/issues/81597."""
    galaxy = str(Path(sys.executable).parent / "ansible-galaxy")
    words = [
        galaxy, "collection", "install", "lifeboat.dr", "--signature", signature.as_uri(), "--keyring", str(keyring),
        "--required-valid-signature-count", "+1", "--no-deps", "--server", server,
    ]  # fmt: skip
    # Where this checkout is installed already nothing would be done; at home answers are remembered.
    paths = {"HOME": f"{target}-home", "ANSIBLE_COLLECTIONS_PATH": str(target)}
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **paths})


def accepted(artefact: Path, signature: Path, keyring: Path) -> bool:
    """Of a file, as docs/security.md says."""
    line = (
        'tar --extract --gzip --to-stdout --file "$0" MANIFEST.json'
        ' | gpg --no-default-keyring --keyring "$1" --verify "$2" -'
    )
    done = subprocess.run(["sh", "-c", line, artefact, keyring, signature], capture_output=True, check=False)
    return done.returncode == 0


def exchanged(artefact: Path, target: Path) -> Path:
    """What somebody without the key can make: one file changed, and both manifests sealed again."""
    with tarfile.open(artefact) as archive:
        contents = [
            (member, collection.content_of(archive, member.name) if member.isfile() else b"") for member in archive
        ]
    changed = {member.name: content for member, content in contents}
    changed["README.md"] += b"\nSomething else.\n"
    files = json.loads(changed["FILES.json"])
    for entry in files["files"]:
        if entry["name"] == "README.md":
            entry["chksum_sha256"] = hashlib.sha256(changed["README.md"]).hexdigest()
    changed["FILES.json"] = json.dumps(files).encode()
    manifest = json.loads(changed["MANIFEST.json"])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(changed["FILES.json"]).hexdigest()
    changed["MANIFEST.json"] = json.dumps(manifest).encode()
    with gzip.open(target, "wb", compresslevel=1) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for member, _content in contents:
            member.size = len(changed[member.name])
            archive.addfile(member, io.BytesIO(changed[member.name]))
    return target


@pytest.mark.slow
@pytest.mark.long
def test_a_commit_is_built_twice_the_same_and_installed_by_its_signature(
    keyring: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name in ("first", "second"):
        key = ["--key", KEY] if name == "second" else []
        monkeypatch.setattr(sys, "argv", ["collection.py", "--output", str(tmp_path / name), *key])
        assert collection.main() == 0
        (made[name],) = (tmp_path / name).glob("*.tar.gz")
    assert made["first"].read_bytes() == made["second"].read_bytes()
    assert list((tmp_path / "first").iterdir()) == [made["first"]], "without a key nothing is signed"
    (signature,) = (tmp_path / "second").glob("*.manifest.asc")
    planted = exchanged(made["second"], tmp_path / "planted.tar.gz")
    assert accepted(made["second"], signature, keyring)
    assert not accepted(planted, signature, keyring)

    monkeypatch.setattr(Galaxy, "artefact", made["second"], raising=False)
    done = install(server, signature, keyring, tmp_path / "installed")
    assert (done.returncode, "lifeboat.dr:" in done.stdout) == (0, True), done.stdout + done.stderr
    home = tmp_path / "installed/ansible_collections/lifeboat/dr"
    assert (home / "plugins/module_utils/base/version.py").is_file()
    absent = ("requirements.txt", "requirements.lock", "tests/supply", "tests/unit")
    assert [name for name in absent if (home / name).exists()] == []

    monkeypatch.setattr(Galaxy, "artefact", planted)
    refused = install(server, signature, keyring, tmp_path / "planted")
    assert refused.returncode != 0
    assert "GnuPG signature verification failed" in refused.stderr, refused.stderr
    assert not (tmp_path / "planted/ansible_collections/lifeboat/dr/README.md").exists()
