# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role vault_keeper writes on both sides: rendered by Ansible from its own variables, and read by the core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import configured
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from test_awx import render, trusted

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/vault_keeper"
SECRETS = {
    "objects_access_key": "reader", "objects_secret_key": "reader-secret-0001", "vault_access_key": "keeper",
    "vault_secret_key": "keeper-secret-0001", "database_password": "never-on-the-keeper",
}  # fmt: skip
STACK: dict[str, Any] = {
    "lifeboat_stack": "shop",
    "lifeboat_repository": {"type": "local", "path": "/backup", "group": "lifeboat-keeper"},
    "lifeboat_objects": {"bucket": "uploads", "service": "objects", "port": 9100, "change_limit": 20,
                         "admin": {"api": "minio"}},
    "lifeboat_keeper_secrets": SECRETS,
}  # fmt: skip
VAULT = {"endpoint_url": "http://vault1:9000", "objects_bucket": "shop-objects", "noncurrent_days": 60}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"lifeboat_keeper": {"host": "keeper1", "quota": "5G"}},
    "mirrors": {
        "lifeboat_keeper": {"host": "keeper1", "vault": VAULT, "store": {"quota": "7G"}, "signing_key": "/etc/k"}
    },
    "elsewhere": {
        "lifeboat_keeper": {"host": "keeper1", "vault": VAULT, "store": {"port": 0}},
        "lifeboat_objects": {"bucket": "uploads", "endpoint_url": "https://s3.example.org"},
    },
    "ipv6": {"lifeboat_keeper": {"host": "keeper1", "vault": VAULT, "store": {"address": "fd00::1"}}},
    "files": {
        "lifeboat_keeper": {"host": "keeper1"},
        "lifeboat_database": False,
        "lifeboat_config": {"enabled": False},
        "lifeboat_objects": {},
        "lifeboat_files": {"sources": [{"name": "uploads", "volume": "uploads"}]},
    },
    "follows": {
        "lifeboat_keeper": {"host": "keeper1"},
        "lifeboat_wal": {"enabled": True, "window_days": 9, "spool_limit": "9G", "interval": 10},
    },
    "whole": {
        "lifeboat_keeper": {"host": "keeper1"},
        "lifeboat_files": {"sources": [{"name": "uploads", "volume": "uploads"}]},
        "lifeboat_dumps": {"sources": [{"name": "mariadb", "service": "mariadb", "preset": "mariadb"}]},
    },
    "told": {"lifeboat_keeper": {"host": "keeper1"}, "switch": "https://hc-ping.com/1\n", "figures": "/var/lib/x"},
}
PLAY = [{
    "hosts": "all", "gather_facts": False, "connection": "local",
    "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
    "tasks": [
        {"name": "settings", "vars": {"vault_keeper_heartbeat_url": "{{ switch | default('') }}",
                                      "vault_keeper_textfile_directory": "{{ figures | default('') }}",
                                      "ansible_connection": "local"},
         "delegate_to": "keeper1",  # as the role writes it: `ansible_host` is the keeper's there
         "ansible.builtin.copy": {
            "content": "{{ {'config': __vault_keeper_configuration, 'line': __vault_keeper_key_line,"
                       " 'mirrors': __vault_keeper_mirrors, 'allowed': __vault_keeper_allowed_lines,"
                       " 'packages': __vault_keeper_packages, 'secrets': __vault_keeper_secrets} | to_json }}",
            "dest": "{{ out }}/{{ inventory_hostname }}.json", "mode": "0600"}},
        {"name": "sshd", "ansible.builtin.template": {
            "src": str(ROLE / "templates/sshd.conf.j2"), "dest": "{{ out }}/{{ inventory_hostname }}.conf",
            "mode": "0600"}},
    ],
}]  # fmt: skip


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of Ansible for all cases."""
    out = tmp_path_factory.mktemp("rendered")
    hosts = {name: {**STACK, **changes} for name, changes in CASES.items()}
    (out / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (out / "play.yml").write_text(yaml.safe_dump(PLAY))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(out / "inventory.yml"),
            "-e", f"out={out}", "-e", f"ansible_python_interpreter={sys.executable}", str(out / "play.yml"),
    ]  # fmt: skip
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def found(rendered: Path, case: str) -> tuple[Config, dict[str, Any], list[str]]:
    told = json.loads((rendered / f"{case}.json").read_text())
    lines = [line.strip() for line in (rendered / f"{case}.conf").read_text().splitlines()]
    return config.from_mapping(told["config"], SECRETS), told, lines


@pytest.mark.slow
def test_without_a_vault_of_its_own_nothing_is_forwarded(rendered: Path) -> None:
    made, told, lines = found(rendered, "plain")
    assert (made.objects.bucket, made.vault.objects_bucket, made.keeper.store.port) == ("", "", 0)
    assert made.keeper.source.host == "plain", "the stack's host, which has no ansible_host"
    assert (told["mirrors"], told["line"]) == (False, "restrict")
    assert "DisableForwarding yes" in lines and "disableforwarding yes" in told["allowed"]
    assert not any(line.startswith(("PermitOpen", "AllowTcpForwarding")) for line in lines)


@pytest.mark.slow
def test_a_keeper_of_a_stack_without_a_database_awaits_its_files(rendered: Path) -> None:
    made = found(rendered, "files")[0]
    assert [kind.name for kind in configured(made)] == ["files"]
    assert [kind.name for kind in configured(found(rendered, "plain")[0])] == ["database", "config"]
    whole = found(rendered, "whole")[0]
    assert [kind.name for kind in configured(whole)] == ["database", "files", "dumps", "config"]


@pytest.mark.slow
def test_it_follows_the_wal_where_that_is_received(rendered: Path) -> None:
    made = found(rendered, "follows")[0]
    assert (made.wal.enabled, made.wal.window_days, made.wal.spool_limit) == (True, 9, "4G")
    assert not found(rendered, "plain")[0].wal.enabled
    service, timer = ((ROLE / f"templates/follow-{kind}.j2").read_text() for kind in ("service", "timer"))
    assert "keeper follow --stack {{ vault_keeper_stack }}\n" in service
    assert "\nOnUnitInactiveSec=60\n" in timer
    assert (ROLE / "templates/service.j2").read_text().splitlines()[-16:] == service.splitlines()[-16:]


@pytest.mark.slow
def test_exactly_the_stores_port_is_forwarded_where_it_is_mirrored(rendered: Path) -> None:
    made, told, lines = found(rendered, "mirrors")
    assert (made.objects.bucket, made.objects.change_limit, made.objects.service) == ("uploads", 20, "")
    assert (made.objects.endpoint_url, made.objects.admin.api) == ("", ""), "no administrator's key is on a keeper"
    assert (made.keeper.store.port, made.keeper.store.quota) == (9100, "7G")
    assert (made.vault.endpoint_url, made.vault.noncurrent_days) == ("http://vault1:9000", 60)
    assert (made.signing_key, made.state_directory) == ("/etc/k", "/srv/lifeboat-keeper/shop/state")
    assert told["line"] == 'restrict,port-forwarding,permitopen="127.0.0.1:9100"'
    opened = [line for line in lines if "Forward" in line or line.startswith("Permit")]
    assert opened == [
        "AllowTcpForwarding local", "PermitOpen 127.0.0.1:9100", "AllowAgentForwarding no",
        "AllowStreamLocalForwarding no", "X11Forwarding no", "PermitTunnel no", "PermitTTY no", "PermitUserRC no",
    ]  # fmt: skip
    assert {"permitopen 127.0.0.1:9100", "allowtcpforwarding local"} <= {*told["allowed"]}
    assert told["packages"] == ["python3-boto3"]


@pytest.mark.slow
def test_a_store_that_is_reached_without_the_host_needs_no_port(rendered: Path) -> None:
    made, told, lines = found(rendered, "elsewhere")
    assert (made.objects.endpoint_url, made.keeper.store.port) == ("https://s3.example.org", 0)
    assert (told["mirrors"], told["line"]) == (True, "restrict")
    assert "DisableForwarding yes" in lines


@pytest.mark.slow
def test_an_address_of_ipv6_has_brackets(rendered: Path) -> None:
    _made, told, lines = found(rendered, "ipv6")
    assert "PermitOpen [fd00::1]:9100" in lines
    assert told["line"].endswith('permitopen="[fd00::1]:9100"')


def test_keys_are_of_the_keepers_user_alone_and_go_when_they_are_not_given() -> None:
    tasks = {task["name"]: task for task in yaml.safe_load((ROLE / "tasks/pull.yml").read_text())}
    write = tasks["pull | Write the keys of the store and of the vault and the switch's address, for that user alone"]
    file = write["ansible.builtin.copy"]
    assert (file["owner"], file["mode"]) == ("{{ vault_keeper_user }}", "0600")
    assert (write["no_log"], write["diff"]) == (True, False)
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__vault_keeper_keys"]
    assert set(known) == {*SECRETS} - {"database_password"}
    remove = tasks["pull | Remove what is not given any more"]
    assert remove["ansible.builtin.file"] == {"path": file["dest"], "state": "absent"}
    given = "__vault_keeper_secrets | length"
    assert (write["when"][0], remove["when"]) == (f"{given} > 0", f"{given} == 0")


@pytest.mark.slow
def test_a_keeper_has_the_keys_that_it_needs_and_no_other(rendered: Path) -> None:
    keys = {name: value for name, value in SECRETS.items() if name != "database_password"}
    secrets = {case: found(rendered, case)[1]["secrets"] for case in ("plain", "mirrors", "told")}
    assert secrets == {"plain": {}, "mirrors": keys, "told": {"heartbeat_url": "https://hc-ping.com/1"}}


@pytest.mark.slow
def test_where_its_metrics_go_is_in_its_settings(rendered: Path) -> None:
    assert found(rendered, "told")[0].monitoring.textfile_directory == "/var/lib/x"
    assert found(rendered, "plain")[0].monitoring.textfile_directory == ""


def test_each_keeper_of_a_stack_has_its_own_rules_of_sshd() -> None:
    """Named after the stack, the last keeper's took the first one's away."""
    tasks = yaml.safe_load((ROLE / "tasks/access.yml").read_text())
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text())

    def path(stack: str, user: str) -> str:
        (written,) = [task["ansible.builtin.template"]["dest"] for task in tasks if "ansible.builtin.template" in task]
        return str(render(written, trusted({**known, "vault_keeper_stack": stack, "vault_keeper_user": user})))

    accounts = [("shop", "keeper-shop"), ("shop", "keeper2-shop"), ("wiki", "keeper-wiki")]
    assert len({path(*one) for one in accounts}) == len(accounts)
    assert path("shop", "keeper-shop") == "/etc/ssh/sshd_config.d/lifeboat-keeper-shop.conf", "as it was before"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users can enter: pytest closes the one above its own again and again."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to other users")
def test_the_directory_above_is_roots_so_that_two_stacks_share_a_keeper(tmp_path: Path, open_path: Path) -> None:
    """By the role's own tasks, with two users that every system has; and where an earlier run gave it to one stack."""
    base = open_path / "srv" / "lifeboat-keeper"
    users = {"shop": "daemon", "wiki": "bin"}

    def run() -> None:
        for stack, user in users.items():
            values = {
                "vault_keeper_host": "localhost", "vault_keeper_user": user, "vault_keeper_stack": stack,
                "vault_keeper_settings": {"directory": str(base / stack)},
            }  # fmt: skip
            role = {"name": "lifeboat.dr.vault_keeper", "tasks_from": "directory"}
            play = [{"hosts": "localhost", "gather_facts": False, "connection": "local", "vars": values,
                     "tasks": [{"name": "directory", "ansible.builtin.include_role": role}]}]  # fmt: skip
            (tmp_path / "play.yml").write_text(json.dumps(play))
            argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,",
                    "-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]  # fmt: skip
            env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
            done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT, env=env)
            assert done.returncode == 0, done.stdout + done.stderr

    def entered(user: str, stack: str) -> bool:
        argv = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "touch", str(base / stack / "mine")]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    run()
    assert (base.stat().st_uid, base.stat().st_mode & 0o777) == (0, 0o755)
    assert [entered(user, stack) for stack, user in users.items()] == [True, True]
    assert not entered("bin", "shop"), "each only its own"
    base.chmod(0o700)
    os.chown(base, 1, 1)  # as an earlier version left it
    run()
    assert [entered(user, stack) for stack, user in users.items()] == [True, True]
