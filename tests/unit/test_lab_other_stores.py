# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's shop keeps besides rows and objects: all is protected, and a drill's writer writes into all of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config, from_mapping

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "lab"
ENDPOINT = re.compile(r'@(?:app|router)\.(get|put|post|delete)\("([^"]+)"')


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def shop() -> Config:
    variables = ROOT / "inventories" / "lab" / "group_vars"
    own, first = load(variables / "other_stores.yml"), load(variables / "shop.yml")
    assert own["lab_other_stores"] is True
    return from_mapping(
        {
            "stack": "shop", "runtime": first["lifeboat_runtime"], "database": first["lifeboat_database"],
            "files": own["lifeboat_files"], "dumps": own["lifeboat_dumps"],
            "drill": {"transactions": first["__lab_transactions"] + own["__lab_other_transactions"]},
        }
    )  # fmt: skip


def test_every_volume_of_theirs_is_protected() -> None:
    config, compose = shop(), load(LAB / "shop" / "other_stores.yml")
    mounted = {
        (name, target): volume
        for name, service in compose["services"].items()
        for volume, _colon, target in (mount.partition(":") for mount in service.get("volumes", ()))
    }
    dumped = {mounted[source.service, source.data_path] for source in config.dumps.sources}
    assert {*dumped, *(source.volume for source in config.files.sources)} == set(compose["volumes"])
    rows = (LAB / "shop" / "other_stores.sql").read_text(encoding="utf-8")
    for column in ("path", "size", "sha256", "uploaded_at"):
        assert re.search(rf"^    {column} ", rows, re.MULTILINE) and column in config.files.references, column


def test_a_drill_writes_into_every_store_through_what_the_backend_has() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (LAB / "images" / "backend" / "app").glob("*.py"))
    offered = {(verb.upper(), path.split("/")[1]) for verb, path in ENDPOINT.findall(source)}
    transactions = shop().drill.transactions
    assert [transaction.name for transaction in transactions] == ["item", "file", "upload", "review", "basket"]
    for transaction in transactions:
        for request in (transaction.write, transaction.read, transaction.remove):
            path = urlsplit(request.url).path
            assert (request.method, path.split("/")[1]) in offered, f"{transaction.name}: {request.method} {path}"


def test_only_the_scenario_that_needs_them_has_them() -> None:
    asked = ("LIFEBOAT_OTHER_STORES", "LIFEBOAT_CONTINUOUS")

    def groups(**more: str) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if name not in asked}
        script = [sys.executable, str(ROOT / "molecule" / "inventory" / "hosts.py")]
        done = subprocess.run(script, env={**environment, **more}, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert "other_stores" not in groups()
    assert groups(LIFEBOAT_OTHER_STORES="1")["other_stores"] == {"children": ["shop"]}
    assert "continuous" not in groups()
    assert groups(LIFEBOAT_CONTINUOUS="1")["continuous"] == {"children": ["shop"]}
    asking = [
        path.parent.name
        for path in (ROOT / "molecule").glob("*/molecule.yml")
        if "LIFEBOAT_OTHER_STORES" in path.read_text(encoding="utf-8")
    ]
    assert asking == ["drill"]
    (rare,) = re.findall(r'^rare="(.*)"', (ROOT / "tests" / "molecule.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert "drill" in rare.split(), "which `make test` leaves out: its time stays what it is"
