# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""Of what is seen, the cause; of the cause, the step. One row each, and each row differs from a healthy stack in one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import cause as backend_cause
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import facts
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.cause import classify, next_step
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.facts import (
    DATABASE,
    OBJECTS,
    OTHER,
    Disk,
    Holder,
    Host,
    Observations,
    Store,
    Unit,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS, Check

DB = Unit("db", "shop-db-1", DATABASE, id="d", health="healthy")
STORE = Unit("objects", "shop-objects-1", OBJECTS, id="o", health="healthy")
APP = Unit("backend", "shop-backend-1", id="b", health="healthy")
WEB = Unit("frontend", "shop-frontend-1", id="f")
GIB = 1 << 30
HOST = Host(disks=(Disk("/var/lib/docker", 100 * GIB, 50 * GIB, 1000, 900),))
OK = (Check("GET http://127.0.0.1:8000/health", PASS, "status 200"),)
DEAD = (Check("GET http://127.0.0.1:8000/health", FAIL, "Connection refused"),)
HEALTHY = Observations(HOST, services=("backend", "frontend"), units=(DB, STORE, APP, WEB), endpoints=OK)


def seen(app: Unit = APP, **more: Any) -> Observations:
    return replace(HEALTHY, units=(DB, STORE, app, WEB), endpoints=DEAD, **more)


def app(**how: Any) -> Unit:
    return replace(APP, **how)


def host(**how: Any) -> Host:
    return replace(HOST, **how)


KILLED = app(status="exited", exit_code=137)
LOOP = app(status="restarting", exit_code=1, restarts=7, health="starting")
REFUSED = app(health="unhealthy", log=("FATAL:  password authentication failed for user",))
FULL = (Disk("/var/lib/docker", 100 * GIB, 0),)
NO_INODES = (Disk("/", 100 * GIB, 50 * GIB, 1_000_000, 12),)
LOST = (Store(DATABASE, "db", "the volume shop_pgdata of db is gone"),)
GONE = (Store(OBJECTS, "objects", "the bucket uploads is missing"),)
THIEF = Holder("8000/tcp", "backend", 4711, "python3 -m http.server 8000")
STRAY = Holder("8000/tcp", "backend", container="old-backend-1", ours=True)

CASES: list[tuple[str, Observations, str, str, str]] = [
    # what,                        what is seen,                                            kind,         words,                              first step
    ("killed",                     seen(KILLED),                                            "stopped",    "it was killed (SIGKILL)",          "restart"),
    ("ended by itself",            seen(app(status="exited")),                              "stopped",    "backend is exited",                "restart"),
    ("told to end",                seen(app(status="exited", exit_code=143)),               "stopped",    "SIGTERM",                          "restart"),
    ("paused",                     seen(app(status="paused")),                              "stopped",    "backend is paused",                "restart"),
    ("removed",                    replace(HEALTHY, units=(DB, STORE, WEB), absent=("backend",)), "stopped", "backend has no container",        "restart"),
    ("all stopped, data whole",    replace(HEALTHY, units=(replace(DB, status="exited"), APP)), "stopped", "db is exited",                      "restart"),
    ("killed for memory",          seen(app(status="exited", exit_code=137, oom=True)),     "memory",     "memory ran out",                   "restart"),
    ("unhealthy",                  seen(app(health="unhealthy", health_output="timed out")), "unhealthy",  "its check says: timed out",        "restart"),
    ("hung, no health check",      replace(HEALTHY, endpoints=DEAD),                        "silent",     "Connection refused",               "restart"),
    ("crash loop",                 seen(LOOP),                                              "loop",       "restarted 7 times",                "recreate"),
    ("between two falls",          seen(app(restarts=5, up=2.0, health="starting")),        "loop",       "crashes in a loop",                "recreate"),
    ("crash loop of a new image",  seen(LOOP, images_changed={"backend": "20261124_033000"}), "image",    "recovery point 20261124_033000",   "image"),
    ("no such program",            seen(app(status="created", exit_code=127, error="executable file not found"), images_changed={"backend": "20261124_033000"}), "image", "executable file not found", "image"),
    ("image gone",                 seen(app(status="exited"), images_gone={"backend": "shop/backend:1"}), "image gone", "shop/backend:1 of backend", "recreate"),
    ("wrong password",             seen(REFUSED),                                           "refused",    "refused by what it depends on",    "redeploy"),
    ("wrong password, told by the check", seen(app(health="unhealthy", health_output="InvalidAccessKeyId")), "refused", "InvalidAccessKeyId",          "redeploy"),
    ("a variable is not set",      seen(replace(LOOP, log=("KeyError: 'API_KEY'",)), env_blank=("API_KEY",)), "unset", ".env lacks API_KEY",  "redeploy"),
    (".env lacks what is needed",  seen(app(health="starting"), env_missing=("DB_PASSWORD",)), "env",     ".env lacks DB_PASSWORD",           "redeploy"),
    (".env cannot be read",        seen(app(health="starting"), compose="failed to read /srv/shop/.env: line 3"), "env", "line 3",            "redeploy"),
    ("compose file broken",        seen(app(health="starting"), compose="yaml: line 7: did not find expected key"), "compose", "line 7",      "redeploy"),
    ("compose file broken, killed", seen(KILLED, compose="yaml: line 7"),                   "compose",    "line 7",                           "restart"),
    ("compose file broken, serves", replace(HEALTHY, compose="yaml: line 7"),               "compose",    "line 7",                           "redeploy"),
    ("port taken",                 seen(app(status="created"), ports=(THIEF,)),             "port",       "process 4711 (python3 -m http.server 8000)", ""),
    ("port held by our own stray", seen(app(status="created"), ports=(STRAY,)),             "stray",      "old-backend-1 of the same project", "restart"),
    ("engine stopped",             replace(HEALTHY, host=host(engine="Cannot connect", unit="inactive"), units=()), "engine", "its unit is inactive", "engine"),
    ("disk full",                  seen(KILLED, host=host(disks=FULL)),                     "disk",       "/var/lib/docker has no space left", "space"),
    ("no inodes",                  seen(KILLED, host=host(disks=NO_INODES)),                "disk",       "/ has no inodes left",             "space"),
    ("disk full, engine down",     replace(HEALTHY, host=host(disks=FULL, engine="no")),    "disk",       "no space left",                    "space"),
    ("database broken",            seen(LOOP, stores=LOST),                                 "database",   "shop_pgdata of db is gone",        ""),
    ("object store broken",        seen(LOOP, stores=GONE),                                 "objects",    "the bucket uploads is missing",    ""),
    ("both broken: rows first",    seen(LOOP, stores=(*GONE, *LOST)),                       "database",   "underneath is broken",             ""),
    ("a recovery has not ended",   seen(KILLED, pending="a recovery of the database has begun and not ended"), "pending", "has begun", ""),
    ("runs under another name",    replace(HEALTHY, units=(), absent=("db", "backend"), elsewhere=("renamed",), endpoints=OK), "project", "runs as project renamed", ""),
    ("another name before all that follows from it", seen(app(status="created"), elsewhere=("renamed",), stores=LOST, ports=(THIEF,), host=host(disks=FULL)), "project", "runs as project renamed", ""),
    ("fell once",                  seen(app(status="restarting", exit_code=1, restarts=1)), "stopped",    "restarting",                       "restart"),
    ("nothing",                    HEALTHY,                                                 "healthy",    "every service is well",            "restart"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "kind", "words", "step"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_cause_is_named_and_the_smallest_step_chosen(found: Observations, kind: str, words: str, step: str) -> None:
    cause = classify(found, "shop1")
    assert (cause.kind, next_step(cause, ())) == (kind, step)
    assert words in cause.description
    assert found.healthy is (kind == "healthy")


def test_every_kind_has_a_case_and_every_step_that_is_left_out_a_reason() -> None:
    assert {case[2] for case in CASES} == set(backend_cause.KINDS)
    for case in CASES:
        cause = classify(case[1])
        assert set(cause.useful) | set(cause.useless) == set(backend_cause.LADDER), case[0]
        assert not set(cause.useful) & set(cause.useless), case[0]
        assert all(cause.useless.values())


@pytest.mark.parametrize(
    ("found", "command"),
    [
        (seen(LOOP, stores=LOST), "ansible-playbook lifeboat.dr.recover_database -e confirm=shop1"),
        (seen(LOOP, stores=GONE), "ansible-playbook lifeboat.dr.recover_object_storage -e confirm=shop1"),
        (seen(elsewhere=("renamed",)), "set lifeboat_runtime.project to renamed in the inventory, then: ansible-playbook lifeboat.dr.deploy"),
        (seen(KILLED, pending="a recovery of the database has begun"), "ansible-playbook lifeboat.dr.recover_database -e confirm=shop1"),
        (seen(KILLED, pending="words", pending_component="objects"), "ansible-playbook lifeboat.dr.recover_object_storage -e confirm=shop1"),
        (seen(app(status="created"), ports=(THIEF,)), "kill 4711"),
        (seen(app(status="created"), ports=(replace(THIEF, unit="old.service"),)), "systemctl stop old.service"),
        (seen(app(status="created"), ports=(Holder("8000/tcp", "backend", container="other-1"),)), "docker stop other-1"),
        (seen(app(status="created"), ports=(Holder("8000/tcp", "backend"),)), "ss --listening --processes 'sport = :8000'"),
    ],
)  # fmt: skip
def test_what_is_not_ours_to_mend_has_a_next_command(found: Observations, command: str) -> None:
    cause = classify(found, "shop1")
    assert (cause.useful, cause.next) == ((), command)


def test_each_step_is_tried_once_and_then_it_ends() -> None:
    cause = classify(seen(KILLED))
    tried: list[str] = []
    while step := next_step(cause, tried):
        tried.append(step)
    assert tried == ["restart", "recreate", "image", "redeploy"]
    assert next_step(cause, (), method="image") == "image", "the operator may name the first"
    assert next_step(cause, ("image",), method="image") == "restart"


@pytest.mark.parametrize(
    ("one", "well"),
    [
        (APP, True),
        (WEB, True),
        (app(health="starting"), False),
        (app(status="running", health="none", restarts=3, up=4.0), False),
        (app(status="running", health="none", restarts=3, up=400.0), True),
        (app(status="exited", once=True), True),
        (app(status="exited", once=True, exit_code=1), False),
        (app(status="exited"), False),
        (app(status="paused"), False),
        (app(status="dead"), False),
    ],
)
def test_when_a_service_is_well(one: Unit, well: bool) -> None:
    assert one.well is well


def test_services_that_the_operator_left_out_do_not_count() -> None:
    found = replace(HEALTHY, units=(DB, STORE, APP, replace(WEB, role=OTHER, status="exited")))
    assert found.healthy


@pytest.mark.parametrize(
    ("size", "free", "inodes", "free_inodes", "full"),
    [
        (100 * GIB, 50 * GIB, 0, 0, ""),
        (100 * GIB, 60 << 20, 0, 0, "space"),
        (24 << 20, 2 << 20, 0, 0, ""),
        (24 << 20, 1 << 20, 0, 0, "space"),
        (100 * GIB, 50 * GIB, 1000, 9, "inodes"),
        (0, 0, 0, 0, ""),
    ],
)
def test_when_a_disk_is_full(size: int, free: int, inodes: int, free_inodes: int, full: str) -> None:
    assert Disk("/", size, free, inodes, free_inodes).full == full


def test_a_full_disk_below_a_stack_that_serves_is_no_failure_yet() -> None:
    found = replace(HEALTHY, host=host(disks=FULL))
    assert found.healthy
    assert classify(found).kind == "healthy"


def test_a_service_is_described_in_words() -> None:
    assert LOOP.describe() == "restarting, exit code 1, restarted 7 times"
    assert replace(KILLED, oom=True).describe() == "exited, exit code 137, killed for memory"
    assert facts.Holder("1/tcp", "x").describe() == "a process that cannot be seen"
