# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module objects_mirror, by its real main(); the buckets are a table. tests/objects has real ones."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import guard
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Doubts, Version
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.copier import ChangedError, Copied, Copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Answer
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import Run, settings

AT = datetime(2026, 11, 24, 2, 0, 0, tzinfo=timezone.utc)


class World:
    """Two buckets of keys and ETags. `refuses`: keys that the vault does not take, and why."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[str, dict[str, str]] = {"uploads": {"a": "1", "b": "2", "c": "3"}, "mirror": {}}
        self.refuses: dict[str, LifeboatError] = {}
        self.written = 0
        monkeypatch.setattr(bucket, "names", lambda one: ["docs", "uploads"])
        monkeypatch.setattr(bucket, "versions", self.versions)
        monkeypatch.setattr(bucket, "objects", self.versions)
        monkeypatch.setattr(bucket, "versioning", lambda opened: "Enabled" if opened.name == "mirror" else "")
        monkeypatch.setattr(bucket, "lead", lambda _: (0.0, 0.0))
        monkeypatch.setattr(s3_settings, "inspect", lambda *_, **__: s3_settings.BucketSettings({}))
        monkeypatch.setattr(guard, "sweep", lambda *_: [])
        monkeypatch.setattr(Copier, "copy", lambda _, *asked: self.copy(*asked))
        monkeypatch.setattr(Bucket, "requests", self)
        monkeypatch.setattr(endpoints, "doubts", lambda *_, **__: Doubts())

    def versions(self, one: Bucket, prefix: str = "", watch: Any = None, tags: Any = None) -> list[Version]:
        name = one.name
        return [
            Version(key, 1, etag, AT, f"{name}-{etag}" if name == "mirror" else "null")
            for key, etag in self.held[name].items()
            if key.startswith(prefix)
        ]

    def copy(self, key: str, size: int, etag: str, version: str) -> Copied:
        if key in self.refuses:
            raise self.refuses[key]
        self.held["mirror"][key] = etag
        self.written += 1
        return Copied(key, size, etag, "f" * 64, f"mirror-{etag}", etag, proved=True)

    def greet(self, *_: Any) -> dict[str, str]:
        return {}

    def call(self, method: str, name: str, key: str, *_: Any, **__: Any) -> Answer:
        if key not in self.held.get(name, {}):
            raise NotFoundError("read the object", key or name, "there is no such object")
        etag = self.held[name][key]
        if method == "DELETE":
            del self.held[name][key]
            self.written += 1
        return Answer(200, {"content-length": "1", "etag": etag, "x-amz-version-id": f"mirror-{etag}"}, b"")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def given(root: Path, **more: Any) -> dict[str, Any]:
    said = settings(
        root,
        objects={"bucket": "uploads", "endpoint_url": "http://store:9000"},
        vault={"objects_bucket": "mirror", "endpoint_url": "http://vault:9000"},
    )
    names = ("objects_access_key", "objects_secret_key", "vault_access_key", "vault_secret_key")
    return {"settings": said, "secrets": dict.fromkeys(names, "hunter2"), **more}


def published(root: Path) -> list[str]:
    return repositories.from_settings(LocalSettings(path=str(root / "backup")), {}).published("objects")


def test_objects_mirror_changes(run: Run, tmp_path: Path, world: World) -> None:
    planned = run("objects_mirror", check=True, **given(tmp_path))
    assert (planned["changed"], planned["details"]["copy"], planned["details"]["consistency"]) == (True, 3, "eventual")
    assert planned["diff"]["after"] == "3 objects to copy, 0 to compare, 0 to remove\n"
    assert (world.written, published(tmp_path)) == (0, [])
    done = run("objects_mirror", **given(tmp_path))
    assert (done["changed"], done["details"]["copied"], done["details"]["objects"]) == (True, 3, 3)
    assert published(tmp_path) == [done["id"]]
    assert (done["details"]["unprotected"], done["details"]["excluded"]) == (["docs"], [])
    assert world.held["mirror"] == world.held["uploads"]
    assert "warnings" not in done
    again = run("objects_mirror", **given(tmp_path))
    assert (again["details"]["copied"], again["details"]["removed"], world.written) == (0, 0, 3)
    assert len(published(tmp_path)) == 2


def test_objects_mirror_changes_though_it_cannot_sweep(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise LifeboatError("list unfinished uploads", "s3://mirror", "NotImplemented")

    monkeypatch.setattr(guard, "sweep", refuse)
    done = run("objects_mirror", **given(tmp_path))
    assert done["details"]["copied"] == 3
    assert any("were not swept" in line for line in done["log"])


def test_objects_mirror_warns_of_what_the_vault_does_not_hold(run: Run, tmp_path: Path, world: World) -> None:
    why = LifeboatError("read the object", "b", "it was overwritten each time while being read")
    why.__cause__ = ChangedError()
    world.refuses["b"] = why
    done = run("objects_mirror", **given(tmp_path))
    assert done["details"]["unheld"] == [{"key": "b", "why": why.cause}]
    assert any("does not hold 1 objects of uploads, the first is 'b'" in str(warning) for warning in done["warnings"])


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({}, "the bucket is empty, and 3 of the 3 objects there would be removed"),
        ({"a": "1", "b": "x", "c": "3"}, "0 of the 3 objects there would be removed and 1 overwritten, 33 %"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_objects_mirror_fails_before_a_great_change(
    run: Run, tmp_path: Path, world: World, held: dict[str, str], said: str, check: bool
) -> None:
    run("objects_mirror", **given(tmp_path))
    world.held["uploads"] = held
    refused = run("objects_mirror", check=check, **given(tmp_path))
    assert refused["failed"]
    assert said in refused["msg"]
    number = 1 if held else 3
    assert f"--override {number}`" in refused["remedy"]
    for wrong, why in ((True, "override is True and not a number"), (-1, "override is -1"), (number - 1, said)):
        assert why in run("objects_mirror", check=check, **given(tmp_path, override=wrong))["msg"]
    assert (len(world.held["mirror"]), len(published(tmp_path))) == (3, 1)
    assert run("objects_mirror", check=check, **given(tmp_path, override=number))["changed"]
    assert world.held["mirror"] == (held if not check else {"a": "1", "b": "2", "c": "3"})


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (LifeboatError("write the object", "b", "the line was cut", "Try again."), "the line was cut"),
        (None, "hold"),
    ],
)
def test_objects_mirror_fails_and_publishes_nothing(
    run: Run, tmp_path: Path, world: World, raised: Optional[LifeboatError], said: str
) -> None:
    if raised is not None:
        world.refuses["b"] = raised
        failed = run("objects_mirror", **given(tmp_path))
    else:
        with lock.held("shop", "another run"):
            failed = run("objects_mirror", **given(tmp_path))
    assert failed["failed"]
    assert said in failed["msg"]
    assert published(tmp_path) == []
    world.refuses.clear()
    assert run("objects_mirror", **given(tmp_path))["details"]["objects"] == 3
