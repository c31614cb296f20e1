# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two stacks on one keeper, and two keepers of one stack: whole hosts, set up by lifeboat.dr.keeper, over real SSH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from builders import publish, until
from postgres_stack import docker

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "lifeboat-lab/host"
NAME = f"lifeboat-keepers-{os.getpid()}"
APP, FIRST, SECOND = (f"{NAME}-{host}" for host in ("app", "keeper1", "keeper2"))
# Who pulls which stack: the keeper, and the account on both sides.
PULLS = {"shop": ("shop", FIRST, "keeper-shop"), "wiki": ("wiki", FIRST, "keeper-wiki"),
         "shop_again": ("shop", SECOND, "keeper2-shop")}  # fmt: skip


def inventory() -> dict[str, Any]:
    hosts: dict[str, Any] = {
        name: {
            "ansible_host": APP, "lifeboat_stack": stack, "lifeboat_config": {"enabled": False},
            "lifeboat_repository": {"type": "local", "path": f"/backup/{stack}", "group": "lifeboat-keeper"},
            "lifeboat_keeper": {"host": keeper, "quota": "1G", "address": APP},
            "vault_keeper_user": user, "vault_keeper_enabled": False, "vault_keeper_install_packages": False,
        }
        for name, (stack, keeper, user) in PULLS.items()
    }  # fmt: skip
    every = {
        "ansible_connection": "community.docker.docker",
        "ansible_become": False,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    keepers = {name: {"ansible_host": name} for name in (FIRST, SECOND)}
    groups = {"lifeboat_stacks": {"hosts": hosts}, "keepers": {"hosts": keepers}}
    return {"all": {"vars": every, "children": groups}}


@pytest.fixture(scope="module")
def lab(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The hosts, when lifeboat.dr.keeper has run. Returns the id of each stack's backup."""
    del engine
    root = tmp_path_factory.mktemp("keepers")
    made = {}
    for stack in ("shop", "wiki"):
        (root / stack).mkdir()
        taken = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)
        made[stack] = publish(root / stack, taken, stack=stack).id
        repository = LocalRepository(root / stack / "backup")
        repository.stack = stack
        repository.identity()
    (root / "hosts.yml").write_text(yaml.safe_dump(inventory()))
    docker("network", "create", NAME)
    try:
        for host in (APP, FIRST, SECOND):
            network = ["--network", NAME, "--name", host, "--hostname", host, "--env", "container=docker"]
            docker("run", "--detach", "--privileged", "--cgroupns=private", "--tmpfs", "/run", "--tmpfs", "/run/lock",
                   *network, IMAGE)  # fmt: skip
            booted = ["exec", host, "systemctl", "is-system-running", "--wait"]
            until(lambda booted=booted: docker(*booted, check=False).strip() in ("running", "degraded"))  # type: ignore[misc]
        docker("exec", APP, "mkdir", "-p", "/backup")
        for stack in made:
            docker("cp", str(root / stack / "backup"), f"{APP}:/backup/{stack}")
            docker("exec", APP, "chown", "-R", "root:root", f"/backup/{stack}")
            docker("exec", APP, "chmod", "0750", f"/backup/{stack}")
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(root / "hosts.yml"), "--forks", "1",
                "lifeboat.dr.keeper"]  # fmt: skip
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT, env=env, timeout=1200)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        yield made
    finally:
        docker("rm", "--force", "--volumes", APP, FIRST, SECOND)
        docker("network", "rm", NAME)


def test_each_pulls_its_own_and_none_keeps_another_out(lab: dict[str, str]) -> None:
    for stack, keeper, user in PULLS.values():
        said = json.loads(
            docker(
                "exec", keeper, "runuser", "-u", user, "--", "lifeboat", "keeper", "pull", "--json", "--stack", stack
            )
        )
        assert (said["received"], said["strange"], said["stopped"]) == ([lab[stack]], [], ""), (keeper, stack, said)
        place = f"/srv/lifeboat-keeper/{stack}"
        assert docker("exec", keeper, "stat", "-c", "%U %a", place).split() == [user, "700"]
    look = ["exec", FIRST, "runuser", "-u", "keeper-wiki", "--", "ls", "/srv/lifeboat-keeper/shop"]
    assert docker(*look, check=False) == "", "each sees only its own"
