# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""Records for the faces: a quarter of a shop's life, and one that is hostile in every word."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed as base_typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import drill as evidence_drill
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.phases import ReportedPhase
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from builders import NOW, make_config

HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`|](javascript:x) ![i](//x) @all $(x) \x1b[2J\u202eevil\u200b\nnew line\t日本語 " + "w" * 90  # fmt: skip


def recovered(
    config: Config, *, phases: Sequence[Mapping[str, Any]], planned: Any, results: Any, now: datetime,
    versions: Any = None, **told: Any,
) -> dict[str, Any]:  # fmt: skip
    """The record as it is written, of a recovery as a playbook tells of it."""
    given = evidence_record.recovery({**told, "plan": planned, "checks": results}, phases)
    return schema.plain(evidence_record.build(config, given, now=now, **(versions or {})))


def drilled(config: Config, recovery: dict[str, Any], drill: Mapping[str, Any], **told: Any) -> dict[str, Any]:
    """The record as it is written, of a drill around the record of a recovery, {} where there is none."""
    seen = base_typed.build(evidence_drill.Account, drill, wrong)
    around = base_typed.build(schema.Record, recovery, wrong) if recovery else None
    return schema.plain(evidence_record.of_drill(config, around, seen, **told))


def wrong(where: str, cause: str) -> LifeboatError:
    return LifeboatError("build a record", where, cause)


def record(
    root: Path, days: float = 0, *, scenario: str = "database", seconds: float = 60, **changes: Any
) -> dict[str, Any]:
    """A recovery that ended so many days before NOW."""
    start = NOW - timedelta(days=days)
    at = {"assess": (0, 0.02), "protect": (0.02, 0.2), "restore": (0.2, 0.92), "reopen": (0.92, 1)}
    phases = [
        {
            "name": name,
            "started_at": format_time(start + timedelta(seconds=seconds * first)),
            "finished_at": format_time(start + timedelta(seconds=seconds * last)),
            **({"seconds_of": {"restore": 30.0, "verify": 8.2, "swap": 0.4}} if name == "restore" else {}),
            **({"quarantine": "/var/lib/docker/volumes/shop_pgdata/_data_quarantine"} if name == "protect" else {}),
            **({"way_back": ["docker compose stop db", "mv _data_quarantine _data"]} if name == "protect" else {}),
        }
        for name, (first, last) in at.items()
    ]
    backup = {
        "id": "db_backup_20261124_020000", "taken_at": format_time(start - timedelta(hours=5)), "age_seconds": 18000,
        "size": 81_900_000, "details": {"database_size": 350_000_000, "server_version_num": 170002},
    }  # fmt: skip
    planned = {
        "condition": "damaged", "findings": ["the table app.items is missing", "the role shop_reader is missing"],
        "unchecked": [], "backup": backup, "location": "/backup",
        "passed_over": [{"id": "db_backup_20261124_100000", "problem": "globals.sql.gz has another SHA-256 than when it was written"}],
        "target_seconds": {"object_storage": 7200}.get(scenario, 14400),
    }  # fmt: skip
    name = "objects" if scenario == "object_storage" else "tables"
    checks = [
        {"name": name, "result": "PASS", "detail": "20 tables, 1944647 rows: rows and content equal"},
        {"name": "GET http://127.0.0.1:8000/health", "result": "PASS", "detail": "status 200"},
    ]
    plain = {
        "scenario": scenario, "reason": "the disk died", "operator": "mika", "planned": planned, "phases": phases,
        "results": checks, "now": start + timedelta(seconds=seconds + 5), "versions": {"ansible": "2.19.4", "images": {"db": "postgres:17@sha256:" + "a1" * 32}},
    }  # fmt: skip
    size = {"production_database_bytes": 40_000_000_000}
    return recovered(make_config(root, evidence=size), **{**plain, **changes})


def drill(
    root: Path, days: float, *, scenario: str = "database", seconds: float = 60, **changes: Any
) -> dict[str, Any]:
    start = NOW - timedelta(days=days)
    given = {
        "fault": "the data directory is wiped", "proof": "the server does not start", "seed": "7",
        "steady_state": "30 of 30 transactions", "injected_at": format_time(start),
        "transaction_at": format_time(start + timedelta(seconds=seconds + 1)),
        "ledger": {"acknowledged": 120, "present": 118, "lost": 2, "unexpected": 0}, "rpo_seconds": 1.4,
        "rpo_target_seconds": 86400, "evidence": [],
    }  # fmt: skip
    made = record(root, days, scenario=scenario, seconds=seconds, reason="quarterly drill")
    return drilled(
        make_config(root), made, {**given, **changes}, scenario=scenario, reason="quarterly drill", operator="mika",
        target=made["target_seconds"], now=start + timedelta(seconds=seconds + 6),
    )  # fmt: skip


def proof(
    root: Path, days: float, result: str = PASS, level: str = "restore", taken_at: str = "", of: str = "db"
) -> dict[str, Any]:
    end = NOW - timedelta(days=days)
    part, start = (
        schema.Verified(f"{of}_backup_20261124_020000", result, taken_at or format_time(end), 81_900_000),
        end - timedelta(seconds=30),
    )
    made = evidence_record.of_verification(
        make_config(root), schema.Verification(part.id, level, (part,)), results=[Check("tables", result, "20 tables")],
        phases=[ReportedPhase(start, end, name=f"verify {part.id}", bytes=part.size)], started=start, finished=end,
    )  # fmt: skip
    return schema.plain(made)


def typed(body: dict[str, Any]) -> schema.Record:
    """What the faces take."""
    found, _ = schema.read(body)
    assert found is not None
    return found


def kept(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As evidence_info returns it."""
    return {"id": body["id"], "record": body, "problem": "", "signature": "unsigned", "sha256": "0" * 64, **changes}


def resealed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "seal": schema.seal(body)}


def hostile(root: Path) -> dict[str, Any]:
    """Every text of a whole record replaced, but those that the schema binds to a form; sealed by whoever did it."""
    body = copy.deepcopy(drill(root, 1))
    body["findings"] = [{"what": "x", "owner": "x", "due": "2026-12-31"}]
    body["sign_off"] = {"by": "x", "at": format_time(NOW), "note": "x"}
    bound = ("schema", "id", "kind", "scenario", "verdict", "recorded_at", "started_at", "finished_at", "injected_at",
             "transaction_at", "taken_at", "at", "due", "sha256", "seal", "clock")  # fmt: skip

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in bound else HOSTILE
        if isinstance(value, dict):
            return {HOSTILE if name in ("db", "restore") else name: spoil(each, name) for name, each in value.items()}
        return [spoil(each, key) for each in value] if isinstance(value, list) else value

    return resealed(spoil(body))


def history(root: Path) -> list[dict[str, Any]]:
    """Two hosts: one with a quarter of records, one that was not reached."""
    records = [
        drill(root, 100, seconds=75),
        record(root, 61, seconds=52),
        drill(root, 40, scenario="object_storage", seconds=31),
    ]
    records += [
        drill(root, 20, seconds=64),
        drill(root, 9, scenario="backend", proof=""),
        record(root, 3, error="pg_restore: it broke (exit 1)"),
    ]
    records += [record(root, 2, seconds=48), proof(root, 1), proof(root, 0.5, level="checksum")]
    given = [kept(body) for body in records]
    given.append(kept({**record(root, 1.5), "verdict": "ABORTED"}, id="database_20261123_000000"))
    given.append(
        {"id": "database_20260101_000000", "record": {}, "problem": "it is not JSON", "signature": "", "sha256": ""}
    )
    known = {
        "stack": "shop",
        "scenarios": ["database", "object_storage", "backend", "site"],
        "drill_age_days": 92,
        "proof_age_days": 8,
    }
    return [{"host": "app1", **known, "records": given}, {"host": "app2", "problem": "it was not reached"}]
