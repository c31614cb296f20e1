# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a grant to read back opens on the keeper, and what a recovery is told of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from builders import settings

ROOT = Path(__file__).resolve().parents[2]
VAULT = {"endpoint_url": "http://127.0.0.1:9000", "objects_bucket": "shop-objects"}
INVENTORY: dict[str, Any] = {
    "lifeboat_stack": "shop",
    "lifeboat_vault": {"mode": "pull"},
    "lifeboat_keeper": {"host": "keeper1", "vault": VAULT},
    "lifeboat_keeper_secrets": {"vault_access_key": "keeper", "vault_secret_key": "k" * 20,
                                "reader_access_key": "reader", "reader_secret_key": "r" * 20},
    "hostvars": {"keeper1": {"ansible_host": "203.0.113.9"}},
    "agent_configuration": {"vault": {"mode": "pull"}}, "agent_secrets": {"database_password": "p"},
    "expires": "2026-11-24T18:00:00+09:00",
}  # fmt: skip


def trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: trusted(inner) for key, inner in value.items()}
    return trust_as_template(value) if isinstance(value, str) else value


def told(role: str, name: str, **changes: Any) -> Any:
    """A variable of the role, in that inventory."""
    found: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        text = (ROOT / f"roles/{role}/{part}/main.yml").read_text("utf-8")
        # The lookup needs more of Ansible than is here; test_answers.py has it.
        text = re.sub(r"lookup\('lifeboat\.dr\.answer', '(\w+)', default=([^)]*)\)", r"\1 | default(\2)", text)
        found.update(trusted(yaml.safe_load(text)))
    templar = Templar(loader=DataLoader(), variables={**found, **INVENTORY, **changes})
    return templar.template(trust_as_template("{{ " + name + " }}"))


def keeper(**vault: str) -> dict[str, Any]:
    return {"host": "keeper1", "vault": {**VAULT, **vault}}


LINES: list[tuple[dict[str, Any], str]] = [
    ({}, 'restrict,expiry-time="20261124090000Z",port-forwarding,permitopen="127.0.0.1:9000"'),
    (
        {"expires": "2026-11-24T23:59:59Z", "lifeboat_keeper": {"host": "keeper1"}},
        'restrict,expiry-time="20261124235959Z"',
    ),
    ({"lifeboat_keeper": keeper(endpoint_url="https://s3.example.org")}, 'restrict,expiry-time="20261124090000Z"'),
    (
        {"lifeboat_keeper": keeper(endpoint_url="http://[fd00::1]:9000")},
        'restrict,expiry-time="20261124090000Z",port-forwarding,permitopen="[fd00::1]:9000"',
    ),
    (
        {"lifeboat_keeper": keeper(endpoint_url="http://vault1/")},
        'restrict,expiry-time="20261124090000Z",port-forwarding,permitopen="vault1:80"',
    ),
]


@pytest.mark.parametrize(("changes", "line"), LINES)
def test_the_key_ends_in_utc_and_opens_one_port_at_most(changes: dict[str, Any], line: str) -> None:
    assert told("vault_readback", "__vault_readback_line", **changes) == line
    asked = told("vault_readback", "__vault_readback_lines", **changes)
    assert ("disableforwarding yes" in asked) is ("permitopen" not in line)
    assert {"forcecommand internal-sftp -R", "chrootdirectory /run/lifeboat-readback/shop"} <= {*asked}


GIVEN: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"confirm": "keeper1"}, True),
    ({"confirm": "shop2"}, False),
    ({"confirm": "keeper1", "expires": ""}, False),
    ({"confirm": "keeper1", "expires": "2026-11-24"}, False),
    ({"confirm": "keeper1", "expires": "2026-11-24T18:00:00"}, False),
    ({"confirm": "keeper1", "expires": "2026-11-24T18:00:00Z"}, True),
]


@pytest.mark.parametrize(("changes", "granted"), GIVEN)
def test_a_grant_names_the_keeper_and_its_end(changes: dict[str, Any], granted: bool) -> None:
    tasks = yaml.safe_load((ROOT / "roles/vault_readback/tasks/check.yml").read_text("utf-8"))
    (conditions,) = (
        task["ansible.builtin.assert"]["that"] for task in tasks if task["name"].endswith("the keeper and its end")
    )
    assert all(told("vault_readback", condition, **changes) for condition in conditions) is granted


def test_the_key_is_let_in_last_and_taken_away_first() -> None:
    """Between the two nothing is open that is not as it should be."""
    granted, absent = (
        yaml.safe_load((ROOT / f"roles/vault_readback/tasks/{name}.yml").read_text("utf-8"))
        for name in ("granted", "absent")
    )
    place = "{{ __vault_readback_keys }}/{{ vault_readback_user }}"
    assert (
        granted[-1]["ansible.builtin.copy"]["dest"] == place and granted[-1]["ansible.builtin.copy"]["mode"] == "0644"
    )
    assert absent[0]["ansible.builtin.file"] == {"path": place, "state": "absent"}
    unit = (ROOT / "roles/vault_readback/templates/unit.service.j2").read_text("utf-8")
    assert "--options ro," in unit and "WantedBy" not in unit, "read-only, and not after a restart"


def test_a_recovery_reads_from_the_keeper_with_keys_that_only_read(tmp_path: Path) -> None:
    arguments = told("site_recovery", "__site_recovery_arguments")
    readback = arguments["settings"]["readback"]
    one = config.from_mapping({**settings(tmp_path), "readback": readback}).readback
    assert (one.source.host, one.source.user, one.source.directory) == ("203.0.113.9", "keeper-shop", "/repository")
    assert (one.objects_bucket, one.address, one.port, one.endpoint_url) == ("shop-objects", "127.0.0.1", 9000, "")
    assert arguments["secrets"] == {
        "database_password": "p", "vault_access_key": "reader", "vault_secret_key": "r" * 20,
    }  # fmt: skip
    assert one.source.identity_file == told("vault_readback", "__vault_readback_key")
    assert one.source.known_hosts.rpartition("/")[0] == told("vault_readback", "__vault_readback_etc")
    assert told("vault_readback", "__vault_readback_known") == "203.0.113.9"
    directly = keeper(endpoint_url="https://s3.example.org")
    found = told("site_recovery", "__site_recovery_arguments", lifeboat_keeper=directly)["settings"]["readback"]
    assert (found["port"], found["endpoint_url"]) == (0, "https://s3.example.org")


@pytest.mark.parametrize("changes", [{"lifeboat_vault": {}}, {"lifeboat_keeper": {}}])
def test_a_stack_without_a_keeper_is_recovered_as_before(changes: dict[str, Any]) -> None:
    arguments = told("site_recovery", "__site_recovery_arguments", **changes)
    assert arguments["settings"] == INVENTORY["agent_configuration"]
    assert arguments["secrets"] == INVENTORY["agent_secrets"]
