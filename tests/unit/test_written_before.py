# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository and an evidence folder of an earlier commit still read: list, verify, status and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import written
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from builders import flip


def lifeboat(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = cli.main([*words, "--json", "--config-directory", str(root / "etc")])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    written.unpack(tmp_path)
    return tmp_path


def test_its_backups_are_listed_as_good(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = lifeboat(root, capsys, "list")
    assert code == 0
    names = {entry["id"]: (entry["good"], entry["problem"]) for entry in found}
    expected = [
        *written.DATABASE.values(),
        *written.OBJECTS.values(),
        *written.CONFIG.values(),
        written.OLDER,
        written.NEWER,
    ]
    assert names == dict.fromkeys(expected, (True, ""))
    proven = {entry["id"] for entry in found if entry["proven"]}
    assert {written.DATABASE[written.NEWER], written.OBJECTS[written.NEWER]} <= proven


ADDED = {
    "database": {
        "method": "logical",
        "relations": 0,
        "accepted": False,
        "others": None,
        "excluded": [],
        "missing": {},
        "created": [],
        "standby": False,
        "not_carried": [],
        "recipients": [],
        "host_key": "",
    },
    "objects": {
        "unprotected": None,
        "excluded": [],
        "unlisted": "",
        "identities": None,
        "settings_denied": [],
        "others": [],
        "missing": {},
        "excluded_keys": [],
        "properties": None,
        "tags": None,
        "vaults": [],
        "recipients": [],
        "host_key": "",
        "versions_listed": None,
    },
    "config": {"host_key": "", "state": None},
}  # since then, and what it means that a manifest does not say


def test_its_manifests_have_the_form_that_is_written_today(root: Path) -> None:
    """Every key has its field, and the other way round: nothing is passed over, and nothing else would be written."""
    found = sorted((root / "backup").glob("*/*_backup_*/manifest.json"))
    assert len(found) == len([*written.DATABASE, *written.OBJECTS, *written.CONFIG])
    for path in found:
        body = json.loads(path.read_bytes())
        read = manifest.parse(path.read_bytes(), component=body["component"], expected_id=path.parent.name)
        assert read.to_bytes() == path.read_bytes(), "a field for a signature is there only if there is one"
        details = {**ADDED.get(read.component, {}), **body["details"]}
        assert typed.plain(read.detailed(KINDS[read.component].details), nulls=True) == details


def test_a_store_of_several_buckets_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written.unpack(tmp_path, "a652176d")
    code, found = lifeboat(tmp_path, capsys, "list")
    assert code == 0
    whole, lacking, newest = written.STORE
    assert {entry["id"]: entry["good"] for entry in found} == {whole: True, lacking: False, newest: True}
    (problem,) = [entry["problem"] for entry in found if entry["id"] == lacking]
    assert "the bucket docs is not in it: 1 of the 3 objects there would be removed" in problem


def test_a_manifest_of_several_buckets_has_the_form_that_is_written_today(tmp_path: Path) -> None:
    written.unpack(tmp_path, "a652176d")
    held = {}
    for identity in written.STORE:
        data = (tmp_path / "backup/objects" / identity / "manifest.json").read_bytes()
        read = manifest.parse(data, component="objects", expected_id=identity)
        details = read.detailed(ObjectsDetails)
        assert typed.plain(details, nulls=True) == json.loads(data)["details"]
        held[identity] = [(each.name, each.primary, each.vault, each.objects) for each in details.buckets]
    uploads, empty = ("uploads", True, "uploads-backup"), ("empty", False, "uploads-backup-empty", 0)
    docs = ("docs", False, "uploads-backup-docs")
    assert list(held.values()) == [
        [(*uploads, 5), (*docs, 3), empty],
        [(*uploads, 6), empty],
        [(*uploads, 6), (*docs, 2), empty],
    ]


@pytest.mark.parametrize("identity", [*written.DATABASE.values(), *written.CONFIG.values()])
def test_its_backups_are_verified(root: Path, capsys: pytest.CaptureFixture[str], identity: str) -> None:
    code, said = lifeboat(root, capsys, "verify", identity, "--level", "checksum")
    assert (code, said["verdict"]) == (0, "PASS"), said["checks"]


def test_a_changed_byte_of_it_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "backup/postgresql" / written.DATABASE[written.NEWER] / "fingerprint.json"
    flip(path)
    code, said = lifeboat(root, capsys, "verify", written.DATABASE[written.NEWER], "--level", "checksum")
    assert (code, said["verdict"]) == (6, "FAIL"), said["checks"]


def test_its_evidence_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = lifeboat(root, capsys, "report")
    records = sorted((root / "state/evidence").glob("*.json"))
    assert code == 0
    assert {record["id"]: record["problem"] for record in said["records"]} == {path.stem: "" for path in records}
    verdicts = {record["verdict"] for record in said["records"]}
    assert verdicts == {"PASS", "FAIL", "ABORTED", "COULD_NOT_VERIFY"}


@pytest.mark.parametrize("form", ["html", "markdown", "junit", "metrics"])
def test_each_record_has_its_faces(root: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    for path in sorted((root / "state/evidence").glob("*.json")):
        code = cli.main(["report", path.stem, "--format", form, "--config-directory", str(root / "etc")])
        shown = capsys.readouterr().out
        assert code == 0, shown
        assert shown.strip(), path.stem
