# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may write to the repository forges a backup: a newer one, or the newest itself. The script is forge_backup.py.

The control is the same stack without pinned signers: its next recovery takes the forged one. With them it takes the
newest that the host signed, and every command says what is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import forge_backup
import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UntrustedError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import REPOSITORY, Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import FACTS, make_manifest, settings
from s3_servers import SeaweedFS

CONTENT = {
    "database.dump": b"dump",
    "globals.sql.gz": b"roles",
    "fingerprint.json": json.dumps(FACTS).encode(),
}
SCRIPT = Path(forge_backup.__file__)
DAY = timedelta(days=1)


class Stack:
    """Three nights of a host that signs; its signers are pinned, or not."""

    def __init__(self, root: Path, *, pinned: bool, **more: Any) -> None:
        self.secrets = more.pop("secrets", {})
        self.root, self.now = root, datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=10)
        key = root / "signing"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.settings: dict[str, Any] = settings(root, signing_key=str(key), **more)
        if pinned:
            self.settings["signers"] = [{"name": "app1", "key": key.with_suffix(".pub").read_text().strip()}]
        self.ids: list[str] = []
        self.points: list[str] = []
        for night in (2, 1, 0):
            run, made = self.run, make_manifest(self.now - night * DAY)
            with repositories.of(run).stage("database", made.id) as staging:
                for name, data in CONTENT.items():
                    (staging.path / name).write_bytes(data)
                made = repositories.publish(run, made, staging.publish)
            tied, _new = points.seal(run, now=self.now - night * DAY, log=lambda line: None)
            self.ids.append(made.id)
            self.points.append(tied.id)

    @property
    def run(self) -> Opened:
        return Opened(config.from_mapping(self.settings, self.secrets))

    def attacked(self, which: str) -> list[str]:
        words = [sys.executable, str(SCRIPT), which, str(self.root / "backup")]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()

    def recovered(self, identity: str = "latest") -> tuple[str, bytes]:
        """What a recovery of the database would restore."""
        sources = Sources(self.run, "database", identity)
        chosen, _passed = sources.choose(sources.identity, None, lambda entry: "")
        with sources.repo(chosen).open("database", chosen.id, forge_backup.ARTEFACT) as stream:
            return chosen.id, stream.read()

    def site(self) -> str:
        run, request = self.run, site_plan.Request("latest")
        store = repositories.of(run)
        return site_plan.choose_anywhere(run, store, REPOSITORY, request, lambda line: None)[0].point.id

    def lifeboat(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
        etc = self.root / "etc"
        etc.mkdir(exist_ok=True)
        (etc / "shop.json").write_text(json.dumps(self.settings))
        code = cli.main([*words, "--json", "--config-directory", str(etc)])
        return code, json.loads(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_control_without_signers_the_forged_one_is_recovered(tmp_path: Path, which: str) -> None:
    stack = Stack(tmp_path, pinned=False)
    assert stack.recovered() == (stack.ids[-1], b"roles")
    backup, tied = stack.attacked(which)
    assert stack.recovered() == (backup, forge_backup.POISON)
    assert stack.recovered(tied) == (backup, forge_backup.POISON)
    assert stack.site() == tied


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_with_signers_it_is_not(tmp_path: Path, which: str) -> None:
    stack = Stack(tmp_path, pinned=True)
    assert stack.recovered() == (stack.ids[-1], b"roles")
    backup, tied = stack.attacked(which)
    if which == "plant":
        assert stack.recovered() == (stack.ids[-1], b"roles")
        assert stack.site() == stack.points[-1]
    else:  # the newest one is lost, which is an operator's matter: he names the one before it
        with pytest.raises(UntrustedError, match=f"{stack.ids[-1]} was seen with sequence 3"):
            stack.recovered()
        with pytest.raises(UntrustedError, match=f"{stack.points[-1]} was seen with sequence 3"):
            stack.site()
        assert stack.recovered(stack.ids[-2]) == (stack.ids[-2], b"roles")
        assert stack.recovered(stack.points[-2]) == (stack.ids[-2], b"roles")
    for identity in (backup, tied):
        with pytest.raises(UntrustedError, match="untrusted: "):
            stack.recovered(identity)


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_every_command_says_so_and_none_deletes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    stack = Stack(tmp_path, pinned=True)
    code, said = stack.lifeboat(capsys, "verify", "--level", "checksum")
    assert (code, stack.ids[-1] in said["id"] or stack.points[-1] in said["id"]) == (0, True)
    forged = stack.attacked(which)
    code, listed = stack.lifeboat(capsys, "list")
    assert {entry["id"] for entry in listed if entry.get("untrusted")} >= set(forged)
    assert not [entry for entry in listed if entry["id"] in forged and entry["good"]]
    code, said = stack.lifeboat(capsys, "status")
    results = {check["name"]: check["result"] for check in said["checks"]}
    assert (code, results["untrusted backups"], results["untrusted recovery points"]) == (6, "FAIL", "FAIL")
    code, said = stack.lifeboat(capsys, "verify", forged[0], "--level", "checksum")
    assert (code, "untrusted" in said["checks"][0]["detail"]) == (6, True)
    code, said = stack.lifeboat(capsys, "prune", "--trust-clock")
    assert code == 6
    assert set(forged) <= set(said["untrusted"])
    assert set(forged) <= set(said["keep"])
    assert said["delete"] == []


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    """With a bucket that keeps versions."""
    with s3_servers.seaweedfs() as server:
        server.client.create_bucket(Bucket="versions")
        server.client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        yield server


def in_bucket(weed: SeaweedFS, root: Path) -> Stack:
    place = {
        "type": "s3", "bucket": "versions", "prefix": root.name, "endpoint_url": weed.url,
        "staging_root": str(root / "staging"),
    }  # fmt: skip
    keys = {"s3_access_key": weed.access_key, "s3_secret_key": weed.secret_key}
    return Stack(root, pinned=True, repository=place, secrets=keys)


def test_what_was_signed_is_found_below_what_was_forged(weed: SeaweedFS, tmp_path: Path) -> None:
    """By the writer's key of a bucket that keeps versions: the newest documents are overwritten, newer are planted."""
    stack = in_bucket(weed, tmp_path)
    assert stack.recovered() == (stack.ids[-1], b"roles")
    backup, tied, none, later = stack.ids[-1], stack.points[-1], timedelta(0), timedelta(minutes=5)

    def key(identity: str, name: str = "manifest.json") -> str:
        return f"{tmp_path.name}/postgresql/{identity}/{name}"

    def point(identity: str) -> str:
        return f"{tmp_path.name}/recovery-points/{identity}.json"

    def read(name: str) -> bytes:
        return bytes(weed.client.get_object(Bucket="versions", Key=name)["Body"].read())

    before, said = read(key(backup)), read(point(tied))
    for shift in (none, later):
        identity, other = forge_backup.renamed(backup, shift), forge_backup.renamed(tied, shift)
        manifest = forge_backup.forged(before, identity, shift)
        for name, data in {**CONTENT, forge_backup.ARTEFACT: forge_backup.POISON, "manifest.json": manifest}.items():
            weed.client.put_object(Bucket="versions", Key=key(identity, name), Body=data)
        body = forge_backup.forged_point(said, other, shift, identity, manifest)
        weed.client.put_object(Bucket="versions", Key=point(other), Body=body)
    assert stack.recovered(backup) == (backup, b"roles")
    assert stack.recovered(tied) == (backup, b"roles")
    assert stack.site() == tied
    with pytest.raises(UntrustedError, match=f"{backup} was seen with sequence 3"):
        stack.recovered()
    for identity in (forge_backup.renamed(backup, later), forge_backup.renamed(tied, later)):
        with pytest.raises(UntrustedError, match="untrusted: "):
            stack.recovered(identity)
