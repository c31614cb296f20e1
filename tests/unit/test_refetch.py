# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rows miss, and which of the vault's versions fits them: by hash, else by size, else the newest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.back import CopiedBack
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import refetch
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed, Version
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import settings
from object_world import BEFORE, OBJECTS, SECRETS, VAULT, Object, World
from object_world import row as as_row

OLD, NEW = BEFORE - timedelta(days=2), BEFORE - timedelta(days=1)


class Case:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.world = World(monkeypatch)
        self.world.fill("a b")
        self.rows: list[list[Any]] = [["a"], ["b"]]
        self.listed: list[str] = []
        self.copied: list[dict[str, Any]] = []
        self.query = "SELECT key FROM f"
        monkeypatch.setattr(runtime, "connect", lambda _: None)
        monkeypatch.setattr(server, "connect", lambda config, stack: self)
        monkeypatch.setattr(back, "copy_back", self.copy_back)
        monkeypatch.setattr(bucket, "versions", self.versions)

    database = "shop"

    def stream(self, sql: str, take: Any, **_: Any) -> None:
        for row in self.rows:
            take(as_row(row))

    def versions(self, one: Any, prefix: str = "") -> Iterator[Version]:
        self.listed.append(prefix)
        return (each for each in one.held if each.key.startswith(prefix))

    def copy_back(self, _: Any, entries: Iterable[Listed], target: Any, *, log: Any, lock: bool) -> CopiedBack:
        for entry in entries:
            self.copied.append(entry)
            target.objects[entry.key] = Object(b"x" * entry.size)
        return CopiedBack(len(self.copied), len(self.copied), 0, 0, 0, ())

    def hold(self, key: str, version: str, body: bytes, at: Any, deleted: bool = False) -> None:
        self.world.vault.held.append(Version(key, len(body), "e", at, version, deleted=deleted))
        self.world.vault.bodies[key, version] = body
        self.world.vault.objects.setdefault(key, Object(body))

    def live(self, fetch: bool = False) -> dict[str, Any]:
        objects = {**OBJECTS, "keys_query": self.query}
        made = config.from_mapping(settings(self.root, objects=objects, vault=dict(VAULT)), SECRETS)
        self.found = refetch.live(Opened(made), fetch=fetch, log=lambda _: None)
        shown: dict[str, Any] = typed.plain(self.found)
        return shown


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_nothing_is_missing(case: Case) -> None:
    found = case.live(fetch=True)
    assert (found["verdict"], found["offers"], found["unfit"], found["fetched"], case.listed) == ("PASS", [], 0, 0, [])


def test_without_a_query_nothing_is_claimed(case: Case) -> None:
    case.query = ""
    assert (case.live()["verdict"], case.live(fetch=True)["fetched"]) == ("COULD_NOT_VERIFY", 0)


# (the row, versions in the vault) -> (the version offered, why), or None
FITS: list[tuple[list[Any], list[tuple[str, bytes, Any]], Any]] = [
    (["x"], [("v1", b"old", OLD), ("v2", b"newer", NEW)], ("v2", "the newest that the vault has")),
    (["x", 3], [("v1", b"old", OLD), ("v2", b"newer", NEW)], ("v1", "its size is the row's")),
    (["x", 4], [("v1", b"old", OLD), ("v2", b"newer", NEW)], None),
    (["x", 3, sha256(b"old")], [("v1", b"old", OLD), ("v2", b"OLD", NEW)], ("v1", "its SHA-256 is the row's")),
    (["x", None, sha256(b"old")], [("v1", b"old", OLD), ("v2", b"newer", NEW)], ("v1", "its SHA-256 is the row's")),
    (["x", 3, sha256(b"other")], [("v1", b"old", OLD), ("v2", b"OLD", NEW)], None),
    (["x"], [], None),
]  # fmt: skip


@pytest.mark.parametrize(("row", "held", "expected"), FITS)
def test_which_version_fits(case: Case, row: list[Any], held: list[tuple[str, bytes, Any]], expected: Any) -> None:
    case.rows.append(row)
    for version, body, at in held:
        case.hold("x", version, body, at)
    case.hold("x/y", "other key", b"old", NEW)
    case.hold("x", "marker", b"", BEFORE, deleted=True)
    found = case.live()
    assert found["verdict"] == "FAIL"
    assert [(offer["version"], offer["why"]) for offer in found["offers"]] == ([expected] if expected else [])
    assert (found["unfit"], found["fetched"], case.copied) == (0 if expected else 1, 0, [])
    assert case.listed == ["x"], "few keys are asked for one by one"


def test_fetched_with_leave_only(case: Case) -> None:
    case.rows.append(["x", 3, sha256(b"old")])
    case.hold("x", "v1", b"old", OLD)
    done = case.live(fetch=True)
    assert (done["verdict"], done["fetched"], done["report"]["rows_without_objects"]["count"]) == ("PASS", 1, 0)
    (entry,) = case.copied
    assert (entry.key, entry.vault_version, entry.size, entry.sha256) == ("x", "v1", 3, sha256(b"old"))


def test_many_missing_rows_list_the_vault_once(case: Case) -> None:
    for n in range(150):
        case.rows.append([f"k{n}"])
        case.hold(f"k{n}", "v", b"1", OLD)
    found = case.live()
    assert (len(found["offers"]), case.listed) == (150, [""])
    text = refetch.text(case.found)
    assert text[-1] == "the vault has: 142 more"
