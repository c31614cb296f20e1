# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store whose fresh server knows its root key alone, as MinIO's does, and a stack whose own key is not that one.

SeaweedFS serves; a proxy refuses the stack's key, in MinIO's words, once the data directory that knew it is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Reply, error, faulty
from s3_servers import SeaweedFS, seaweedfs, wipe
from test_recover import Case, empty, make

__all__ = ["make"]
APP = {
    "name": "app", "access_key": "app-key", "secret_key": "app-secret-1",
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[SeaweedFS]:
    with seaweedfs([APP]) as server:
        yield server


@pytest.fixture
def store(make: Callable[..., Case], server: SeaweedFS) -> Iterator[Case]:
    case = make(server, ours=True)
    mark = server.data / "knows the application's key"
    mark.touch()

    def minio(call: Call) -> Reply | None:
        unknown = call.access_key == "app-key" and not mark.exists()
        return error(403, "InvalidAccessKeyId") if unknown else None

    with faulty(server, minio) as proxy:
        for number in range(7):
            case.client.put_object(Bucket=case.bucket, Key=f"key {number}", Body=b"%d" % number)
        case.backup()
        objects = dataclasses.replace(case.config.objects, endpoint_url=proxy.url)
        secrets = {**case.config.secrets, "objects_access_key": "app-key", "objects_secret_key": "app-secret-1"}
        case.config = dataclasses.replace(case.config, objects=objects, secrets=secrets)
        yield case
    server.kill()
    for path in aside(case):
        shutil.rmtree(path)
    server.start()
    with contextlib.suppress(server.client.exceptions.NoSuchBucket):
        wipe(server.client, case.bucket)


def aside(case: Case) -> list[Path]:
    return list(case.source.directory.glob("data.quarantine*"))


def root_variables(case: Case) -> None:
    case.process.environment = {
        "MINIO_ROOT_USER": case.source.access_key,
        "MINIO_ROOT_PASSWORD": case.source.secret_key,
    }


def admin_key(case: Case) -> None:
    case.process.environment = {"MINIO_ROOT_USER_FILE": "/run/secrets/root"}
    keys = {"objects_admin_access_key": case.source.access_key, "objects_admin_secret_key": case.source.secret_key}
    case.config = dataclasses.replace(case.config, secrets={**case.config.secrets, **keys})


def own_key(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(check["result"], check["detail"]) for check in found["checks"] if check["name"] == "the stack's own key"]


@pytest.mark.parametrize("known", [root_variables, admin_key])
def test_a_fresh_store_is_filled_with_a_key_that_it_knows(store: Case, known: Callable[[Case], None]) -> None:
    known(store)
    before = store.portrait()
    empty(store.source.data)
    made = store.plan()
    assert made["mode"] == "rebuild"
    assert any("a fresh store does not know the stack's own key" in line for line in made["warnings"])
    found = store.recover()
    assert store.portrait() == before
    ((result, words),) = own_key(found)
    assert (result, "Make the stack's own key there again" in words) == ("FAIL", True), "the application cannot log in"


def test_a_store_that_was_wiped_and_started_is_seen_as_a_fresh_one(store: Case) -> None:
    root_variables(store)
    before = store.portrait()
    store.process.stop(["objects"], timeout=1)
    empty(store.source.data)
    store.process.start(["objects"], timeout=60)
    made = store.plan()
    assert (made["mode"], made["condition"]) == ("fill", "damaged")
    assert "the store is a fresh one" in made["findings"][0]
    store.recover()
    assert store.portrait() == before


def test_a_store_that_was_wiped_while_it_was_down(store: Case) -> None:
    root_variables(store)
    before = store.portrait()
    store.process.stop(["objects"], timeout=1)
    empty(store.source.data)
    assert store.plan()["mode"] == "start"
    assert store.recover()["mode"] == "fill"
    assert store.portrait() == before


def test_a_wrong_key_of_a_store_that_has_the_bucket_is_only_a_wrong_key(store: Case) -> None:
    root_variables(store)
    (store.source.data / "knows the application's key").unlink()
    with pytest.raises(UsageError, match="refuses the key"):
        store.plan()


def test_without_such_a_key_nothing_is_moved(store: Case) -> None:
    store.process.environment = {"MINIO_ROOT_USER_FILE": "/run/secrets/root"}
    empty(store.source.data)
    with pytest.raises(UsageError, match=r"know only its root key.*objects_admin_access_key.*Nothing was moved"):
        store.plan()
    root_variables(store)
    store.plan()
    store.process.environment = {"MINIO_ROOT_USER_FILE": "/run/secrets/root"}
    with pytest.raises(UsageError, match="Nothing was moved"):
        objects_recovery.protect(Opened(store.config), store.made, log=store.said.append)
    assert aside(store) == []


def test_a_failure_after_the_move_names_where_the_data_is(store: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    root_variables(store)
    empty(store.source.data)
    store.plan()

    def fails(services: Any, *, timeout: float) -> None:
        raise LifeboatError("start", "objects", "no such image", "Pull it.")

    monkeypatch.setattr(store.process, "start", fails)
    with pytest.raises(LifeboatError) as caught:
        objects_recovery.protect(Opened(store.config), store.made, log=store.said.append)
    (kept,) = aside(store)
    assert caught.value.remedy.startswith("Pull it. The old data lies in ")
    assert str(kept) in caught.value.remedy and f"mv {kept} {store.source.data}" in str(caught.value)
