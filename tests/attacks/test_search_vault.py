# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""search_vault.py finds every canary in a vault that is not encrypted, in what is compressed too, and none where it is.

The database's artefacts are written by the product's own writer with the bytes of a dump; that pg_dump's pipeline uses
it, tests/integration/test_encrypted.py shows, and of listings tests/objects/test_encrypted_listings.py.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import FACTS, make_manifest
from config_world import PLANTED, World, git_repository
from s3_servers import SeaweedFS

SCRIPT = Path(__file__).with_name("search_vault.py")
ROWS = {  # by artefact, what only a reader of the database should know; the bytes are those of a dump, compressed
    "database.dump": b"COPY customers FROM stdin;\n1\tcanary-of-a-row\n\\.\n" * 50,
    "globals.sql.gz": b"CREATE ROLE canary_of_a_role;\nALTER ROLE canary_of_a_role PASSWORD 'md5canary-verifier';\n",
}
CANARIES = [
    "canary-of-a-row", "canary_of_a_role", "canary-verifier", "canary_of_a_table", "canary-of-compose",
    "canary-of-the-site", "canary-of-a-commit",
]  # fmt: skip
PACKED = ("canary-of-a-row", "canary-of-a-commit", "canary-of-the-site")  # that nobody finds without decompressing


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with s3_servers.seaweedfs() as server:
        yield server


def configured(world: World, server: SeaweedFS, bucket: str) -> Config:
    plain = world.configured(**more(world), **clear(world))
    vault = dataclasses.replace(plain.vault, endpoint_url=server.url, repository_bucket=bucket)
    keys = {"vault_access_key": server.access_key, "vault_secret_key": server.secret_key}
    return dataclasses.replace(plain, vault=vault, secrets={**plain.secrets, **keys})


def more(world: World) -> dict[str, Any]:
    """What a config backup has besides the stack's own files."""
    site, source = world.root / "dist", world.root / "app"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("canary-of-the-site" * 9)
    if not source.exists():
        git_repository(source, "canary-of-a-commit")
    return {"site_directory": str(site), "repositories": [{"name": "app", "path": str(source)}]}


def clear(world: World) -> dict[str, Any]:
    """The configuration's own recipients would encrypt all of it, too."""
    return {} if world.encryption["recipients"] else {"recipients": []}


def back_up(world: World, config: Config) -> None:
    """A backup of the database, as its method writes it, and the real one of the configuration; and their copies."""
    seal = age.sealing(config, world.lines.append)
    facts = {**FACTS, "tables": {"public.canary_of_a_table": {"rows": 1, "hash": "1", "method": "record"}}}
    contents = {name: gzip.compress(data) for name, data in ROWS.items()}
    contents["fingerprint.json"] = json.dumps(facts).encode()
    written: dict[str, bytes] = {}
    (world.root / "made").mkdir()
    for name, data in contents.items():
        with (world.root / "made" / name).open("wb") as file:
            seal.write(data, file, subject=name)
        written[seal.named(name)] = (world.root / "made" / name).read_bytes()
    listed = tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in written.items())
    details = {"recipients": list(seal.recipients), "host_key": seal.host}
    now = datetime.now(timezone.utc)
    made = make_manifest(now, artefacts=listed, details=details)
    with world.repo.stage("database", made.id) as staging:
        for name, data in written.items():
            (staging.path / name).write_bytes(data)
        staging.publish(made.to_bytes())
    world.take(**more(world), **clear(world))
    held = copies.catch_up(Opened(config), log=world.lines.append)
    assert held.failed == (), held.failed
    points.seal(Opened(config), now=now, copies=held.copies, log=world.lines.append)
    assert copies.send_points(Opened(config), log=world.lines.append) == ()


def searched(server: SeaweedFS, bucket: str) -> tuple[int, set[str], str]:
    """How the attack ended, the words that it found, and what it says of how much it read."""
    words = [sys.executable, str(SCRIPT), server.url, bucket, *CANARIES, PLANTED]
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **keys})
    return done.returncode, {line.split()[0] for line in done.stdout.splitlines() if line}, done.stderr


@pytest.mark.parametrize("encrypted", [False, True], ids=["control: not encrypted", "encrypted"])
def test_a_reader_of_the_vault(
    weed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    world, bucket = World(tmp_path, monkeypatch), f"searched-{encrypted}".lower()
    world.encryption = {"recipients": [world.recipient] if encrypted else []}
    compose = world.stack / "compose.yml"
    compose.write_text(f"{compose.read_text()}# canary-of-compose\n")
    weed.client.create_bucket(Bucket=bucket)
    back_up(world, configured(world, weed, bucket))
    code, found, read = searched(weed, bucket)
    if encrypted:
        assert (code, found) == (1, set()), read
    else:
        assert (code, found) == (0, set(CANARIES)), "each, but the stack's own secrets, which are in no backup then"
        listed = weed.client.list_objects_v2(Bucket=bucket)["Contents"]
        bodies = [weed.client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed]
        assert not any(word.encode() in body for word in PACKED for body in bodies), "it did decompress"
    assert int(read.split()[0]) >= 9, read
