# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not be read is not lost: of an object or a folder that denies access nothing is known."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import verify as mirror_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.back import CopiedBack
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Unheld
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, make_config, publish, store

DENIED = UsageError("read", "s3://mirror/a", "access denied")


@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_a_directory_that_denies_access_is_not_an_empty_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    publish(tmp_path)
    real: Callable[..., Any] = getattr(Path if call == "stat" else os, call)

    def denied(path: Any, *more: Any, **options: Any) -> Any:
        if str(path).startswith(str(tmp_path / "backup")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *more, **options)

    monkeypatch.setattr(Path if call == "stat" else os, call, denied)
    for ask in (store(tmp_path).points, lambda: store(tmp_path).ids("database")):
        with pytest.raises(UsageError, match="Permission denied"):
            ask()


@pytest.mark.parametrize(
    ("failed", "denied", "result"),
    [(0, 0, PASS), (2, 2, COULD_NOT_VERIFY), (2, 1, FAIL), (2, 0, FAIL)],
    ids=["all had", "all denied", "one denied", "lost"],
)
def test_objects_that_the_vaults_key_may_not_read_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: int, denied: int, result: str
) -> None:
    @contextlib.contextmanager
    def scratch(*_: object) -> Iterator[Bucket]:
        yield Bucket("scratch")

    lost = tuple(Unheld(f"{number}", "it may not be read") for number in range(failed))
    monkeypatch.setattr(proof, "_scratch", scratch)
    monkeypatch.setattr(proof.back, "copy_back", lambda *_, **__: CopiedBack(2, 0, 0, 0, failed, lost, denied))
    monkeypatch.setattr(proof.mirror_verify, "verify_objects", lambda *_: [])
    with Inventory() as inventory:
        run = Opened(make_config(tmp_path, **BUCKET))
        point: Any = SimpleNamespace(held_bucket=SimpleNamespace(name="uploads"))
        every = proof._Which(0, None, remembered=False)
        found = list(proof._restored(run, inventory, Bucket("mirror"), point, every, len))
    assert [(check.name, check.result) for check in found] == [("restore", result)]


SAME = hashlib.sha256(b"one").hexdigest()
BYTES: list[tuple[str, Optional[LifeboatError], Optional[LifeboatError], tuple[bool, bool]]] = [
    ("the same", None, None, (False, False)),
    ("gone from the bucket", NotFoundError("read", "a", "there is no such object"), None, (True, False)),
    ("broken in the bucket", IntegrityError("read", "a", "it has 1 bytes instead of 3"), None, (True, False)),
    ("denied by the vault", None, DENIED, (False, True)),
    ("gone from the vault", None, NotFoundError("read", "a", "there is no such object"), (False, True)),
]


@pytest.mark.parametrize(("ours", "theirs", "said"), [case[1:] for case in BYTES], ids=[case[0] for case in BYTES])
def test_an_object_is_not_wrong_because_the_vaults_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
    ours: Optional[LifeboatError],
    theirs: Optional[LifeboatError],
    said: tuple[bool, bool],
) -> None:
    def digest(bucket: Bucket, *_: object) -> tuple[str, str, dict[str, str]]:
        error = ours if bucket.name == "uploads" else theirs
        if error:
            raise error
        return SAME, "", {}

    monkeypatch.setattr(mirror_verify.copier, "digest", digest)
    row = ("a", 3, "parts-2", "v1", "", None, "", "", "")
    wrong, unknown = mirror_verify._other_bytes(Bucket("uploads"), Bucket("mirror"), row)
    assert (bool(wrong), bool(unknown)) == said
