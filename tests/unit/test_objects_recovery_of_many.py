# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of several buckets on the bench's stand-in: they come back and are proved at the same time, and what is wrong
with one of them neither stops nor hides another."""

from __future__ import annotations

import gc
import importlib
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back, take
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import verify as mirror_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.recovery import Restored
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

BENCH = Path(__file__).parents[1] / "bench"
PATIENCE = 60.0
pytestmark = pytest.mark.slow


class Many:
    """So many buckets with two objects each, mirrored; `lose` empties the store."""

    def __init__(self, stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack, self.monkeypatch = stack, monkeypatch
        self.own, *self.others = stack.buckets
        self.said: list[str] = []
        self.opened = Opened(config.load("", stack.config))
        self.id = take.take(self.opened, log=self.said.append).id

    def lose(self) -> None:
        self.stack.source.counts()
        self.stack.lose()

    def restore(self) -> Restored:
        self.said.clear()
        return objects_recovery.restore_objects(
            self.opened, self.id, stamp="20261124_130000", additional=self.others, log=self.said.append
        )

    def before(self, module: Any, name: str, first: Any) -> None:
        """Call `first` with the bucket's name before each copy or proof of it; what it returns is the answer."""
        real, at = getattr(module, name), 2  # copy_back(run, entries, bucket), verify_objects(run, entries, bucket)

        def called(*args: Any, **options: Any) -> Any:
            found = first(args[at].name)
            return real(*args, **options) if found is None else found

        self.monkeypatch.setattr(module, name, called)

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self.stack.source.counts()
        return found


@pytest.fixture
def many(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Many]:
    monkeypatch.syspath_prepend(str(BENCH))
    buckets, many_buckets = importlib.import_module("buckets"), importlib.import_module("many_buckets")
    count = getattr(request, "param", 5)
    with many_buckets.running() as source, many_buckets.running() as vault:
        stack = buckets.Stack(tmp_path, "shop", count, 2 * count, source, vault)
        stack.prepare()
        yield Many(stack, monkeypatch)


@pytest.mark.parametrize("work", [(back, "copy_back"), (mirror_verify, "verify_objects")], ids=["copied", "proved"])
def test_the_applications_bucket_and_the_others_at_the_same_time(many: Many, work: tuple[Any, str]) -> None:
    met = threading.Barrier(5)

    def meet(name: str) -> None:
        met.wait(PATIENCE)

    many.before(*work, meet)
    many.lose()
    done = many.restore()
    many.stack.require_whole()
    assert [check.name for check in done.checks] == [
        "objects", "bytes", "metadata and tags", "bucket versioning", "other buckets: objects", "other buckets: bytes",
        "other buckets: metadata and tags", "other buckets: bucket versioning", "rows and objects",
    ]  # fmt: skip
    assert {check.result for check in done.checks[:-1]} == {PASS}
    assert (done.copied.copied, done.copied.objects) == (10, 10)


def test_what_is_wrong_with_the_applications_bucket_stops_no_other(many: Many) -> None:
    """It fails at once, the others take their time."""

    def refuse(name: str) -> None:
        if name == many.own:
            raise IntegrityError("copy", name, "the vault's listing is damaged")
        time.sleep(0.2)

    many.before(back, "copy_back", refuse)
    many.lose()
    with pytest.raises(IntegrityError, match="the vault's listing is damaged"):
        many.restore()
    assert many.counts()["objects"] == 8, "two in each of the four others"


def test_what_is_wrong_with_the_applications_bucket_hides_no_other(many: Many) -> None:
    def wrong(name: str) -> list[Check] | None:
        return [Check("objects", FAIL, f"{name} has other bytes")] if name in (many.own, many.others[1]) else None

    many.before(mirror_verify, "verify_objects", wrong)
    many.lose()
    with pytest.raises(IntegrityError, match=f"{many.own} has other bytes"):
        many.restore()
    assert f"bucket {many.others[1]}: objects: FAIL: {many.others[1]} has other bytes" in many.said


def test_what_is_wrong_with_another_bucket_is_its_check(many: Many) -> None:
    def refuse(name: str) -> None:
        if name == many.others[0]:
            raise LifeboatError("copy", name, "no answer")

    many.before(back, "copy_back", refuse)
    many.lose()
    done = many.restore()
    (bad,) = [check for check in done.checks if check.name == f"bucket {many.others[0]}"]
    assert "no answer" in bad.detail
    assert many.counts()["objects"] == 8


@pytest.mark.parametrize("many", [12], indirect=True)
def test_a_server_that_went_away_is_not_asked_for_each_of_many_buckets(many: Many) -> None:
    gone, tried = threading.Event(), []

    def die(name: str) -> None:
        tried.append(name)
        if name == many.own:
            gone.set()
            raise LifeboatError("copy", name, "connection refused")
        gone.wait(PATIENCE)
        time.sleep(0.3)

    many.before(back, "copy_back", die)
    many.lose()
    with pytest.raises(LifeboatError, match="connection refused"):
        many.restore()
    assert len(tried) < 8


def test_few_requests_a_bucket(many: Many) -> None:
    """A further bucket is made, filled and proved by a bounded number of them, apart from those of its objects."""
    many.lose()
    many.counts()
    many.restore()
    assert many.counts()["requests"] <= 5 * 21 + 10 * 3


def test_a_backup_lets_go_of_the_one_before_as_it_writes_its_manifest(many: Many) -> None:
    """Each names all buckets: of a thousand that is megabytes, and only one of them is needed then."""
    before: list[weakref.ref[Manifest]] = []

    def sound(entries: Any) -> list[Manifest]:
        found = real(entries)
        before.extend(map(weakref.ref, found))
        return found

    def written(one: Manifest) -> bytes:
        gc.collect()  # what a retried request's error holds is let go of, too, only later
        alive.append([other for other in before if other()])
        return to_bytes(one)

    real, to_bytes, alive = catalog.sound, Manifest.to_bytes, []
    many.monkeypatch.setattr(catalog, "sound", sound)
    many.monkeypatch.setattr(Manifest, "to_bytes", written)
    take.take(many.opened, log=many.said.append)
    assert (len(before), alive) == (1, [[]])
