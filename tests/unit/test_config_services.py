# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a Compose project reaches out of its containers: what is not known to stay inside is named and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import allowed, services
from builders import Runner, make_config

LAB = Path(__file__).resolve().parents[1] / "lab/shop/compose.yml"


def bind(source: str, **more: Any) -> dict[str, Any]:
    return {"volumes": [{"type": "bind", "source": source, "target": "/x", **more}]}


def read(home: Path, runner: Runner, model: dict[str, Any], *allow: str, **where: str) -> tuple[services.Service, ...]:
    runner.expect("config --format json", json.dumps({"name": "shop", **model}))
    config = make_config(home, runtime={"project_directory": "/srv/shop"}, database={"service": "db", "name": "shop"},
                         application={"writers": ["web"]})  # fmt: skip
    return services.read(config, allowed.allowed_paths(config, allow), allow, **where)


# What a service has -> what is said of it.
SERVICES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "privileged": ({"privileged": True}, ["privileged"]),
    "host network": ({"network_mode": "host"}, ["network_mode host"]),
    "a neighbour's network": ({"network_mode": "service:db", "ipc": "shareable", "pid": "service:db"}, []),
    "another container's": ({"network_mode": "container:x"}, ["network_mode container:x"]),
    "namespaces": (
        {"pid": "host", "ipc": "host", "uts": "host", "userns_mode": "host", "cgroup": "host"},
        ["cgroup host", "ipc host", "pid host", "userns_mode host", "uts host"],
    ),
    "capabilities": ({"cap_add": ["SYS_ADMIN", "NET_ADMIN"]}, ["cap_add SYS_ADMIN", "cap_add NET_ADMIN"]),
    "fewer capabilities": ({"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}, []),
    "unconfined": ({"security_opt": ["seccomp=unconfined"]}, ["security_opt seccomp=unconfined"]),
    "new privileges": ({"security_opt": ["no-new-privileges:false"]}, ["security_opt no-new-privileges:false"]),
    "the root directory": (bind("/"), ["mounts /"]),
    "the engine's socket": (bind("/var/run/docker.sock", read_only=True), ["mounts /var/run/docker.sock"]),
    "its own directory": (bind("/srv/shop/data"), []),
    "beside its own directory": (bind("/srv/shop-other"), ["mounts /srv/shop-other"]),
    "out of its own directory": (bind("/srv/shop/../../etc"), ["mounts /srv/shop/../../etc"]),
    "the time": (bind("/etc/localtime", read_only=True), []),
    "the time, to write": (bind("/etc/localtime"), ["mounts /etc/localtime"]),
    "a volume": ({"volumes": [{"type": "volume", "source": "data", "target": "/x"}]}, []),
    "a pipe": ({"volumes": [{"type": "npipe", "source": "x"}]}, ["mounts a npipe"]),
    "a foreign container's volumes": ({"volumes_from": ["container:x", "db"]}, ["volumes_from container:x"]),
    "its own variables": ({"env_file": [{"path": "/srv/shop/.env", "required": True}, "/srv/shop/more.env"]}, []),
    "another stack's variables": ({"env_file": [{"path": "/srv/other/.env"}]}, ["reads /srv/other/.env"]),
    "one file of variables": ({"env_file": "/root/.aws/credentials"}, ["reads /root/.aws/credentials"]),
    "variables from who knows where": ({"env_file": ["/srv/shop/${WHERE}"]}, ["reads /srv/shop/${WHERE}"]),
    "devices": ({"devices": [{"source": "/dev/sda"}]}, ["devices"]),
    "a privileged hook": ({"post_start": [{"command": ["x"], "privileged": True}]}, ["post_start privileged"]),
    "a hook": ({"pre_stop": [{"command": ["x"]}]}, []),
    "what a later Compose invents": ({"use_api_socket": True, "provider": {"type": "x"}, "x-mine": 1},
                                     ["provider", "use_api_socket"]),
    "labels of the machine": ({"label_file": ["/srv/shop/labels", "/etc/shadow"]}, ["reads /etc/shadow"]),
    "logs that stay here": ({"logging": {"driver": "json-file", "options": {"max-size": "1m"}}}, []),
    "logs for the machine": ({"logging": {"driver": "syslog", "options": {"tag": "x"}}}, []),
    "logs for another": (
        {"logging": {"driver": "syslog", "options": {"syslog-address": "udp://a"}}}, ["logging syslog"],
    ),
    "logs for a collector": ({"logging": {"driver": "gelf"}}, ["logging gelf"]),
    "a mount in another": (
        {"volumes": [{"type": "bind", "source": "/srv/shop/a", "target": "/a"},
                     {"type": "bind", "source": "/srv/shop/a/b", "target": "/b", "read_only": True}]},
        ["may write to /srv/shop/a, which contains /srv/shop/a/b"],
    ),
    "a mount in one that is only read": (
        {"volumes": [{"type": "bind", "source": "/srv/shop/a", "target": "/a", "read_only": True},
                     {"type": "bind", "source": "/srv/shop/a/b", "target": "/b"}]},
        [],
    ),
    "the same mount twice": (
        {"volumes": [{"type": "bind", "source": "/srv/shop/a", "target": "/a"},
                     {"type": "bind", "source": "/srv/shop/a", "target": "/b"},
                     {"type": "bind", "source": "/srv/shop/ab", "target": "/c"}]},
        [],
    ),
    "its whole project": (bind("/srv/shop"), ["may write to /srv/shop, which contains what Compose reads"]),
    "its Compose file": (
        bind("/srv/shop/compose.yml"), ["may write to /srv/shop/compose.yml, which contains what Compose reads"],
    ),
    "its variables, to write": (
        {**bind("/srv/shop/env"), "env_file": ["/srv/shop/env/a.env"]},
        ["may write to /srv/shop/env, which contains what Compose reads"],
    ),
    "builds from what it writes": (
        {**bind("/srv/shop/app"), "build": {"context": "/srv/shop/app/src"}},
        ["may write to /srv/shop/app, which contains /srv/shop/app/src"],
    ),
    "builds by another's recipe": (
        {"build": {"context": "/srv/shop", "dockerfile": "../../etc/shadow"}}, ["builds by /etc/shadow"],
    ),
    "caches of images": ({"build": {"context": "/srv/shop", "cache_from": ["shop/web:1", "type=registry,ref=a/b"],
                                    "cache_to": ["type=inline"]}}, []),
    "caches elsewhere": (
        {"build": {"context": "/srv/shop", "cache_from": ["type=local,src=/etc", "type=s3,bucket=a"],
                   "cache_to": ["type=local,dest=/etc/cron.d", "type=registry,ref=a/b", "a/b", "dest=/x"]}},
        ["build cache_from local", "build cache_from s3", "build cache_to local", "build cache_to registry"],
    ),
    "builds here": ({"build": {"context": "/srv/shop/app", "args": {"A": "1"}}}, []),
    "builds the machine": ({"build": {"context": "/", "network": "host"}}, ["builds from elsewhere", "build network"]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), SERVICES.values(), ids=list(SERVICES))
def test_what_reaches_out_of_a_service_is_named(
    tmp_path: Path, runner: Runner, given: dict[str, Any], said: list[str]
) -> None:
    (web,) = read(tmp_path, runner, {"services": {"web": {"image": "web:1", **given}}})
    assert web.beyond == tuple(f"web: {words}" for words in said)
    if said:
        with pytest.raises(UsageError) as error:
            services.refuse([web])
        assert error.value.subject == "; ".join(web.beyond)
        assert f'-e \'{{"allow": ["{web.beyond[0]}"' in error.value.remedy


# What else a project has -> what is said of it.
RESOURCES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "own files": ({"secrets": {"a": {"file": "/srv/shop/a"}}, "configs": {"b": {"content": "x"}}}, []),
    "a secret of the machine": ({"secrets": {"a": {"file": "/etc/shadow"}}}, ["secret a: mounts /etc/shadow"]),
    "a config of the machine": ({"configs": {"a": {"file": "/etc/shadow"}}}, ["config a: mounts /etc/shadow"]),
    "volumes": ({"volumes": {"data": {"name": "shop_data"}, "none": None}}, []),
    "a directory in disguise": (
        {"volumes": {"data": {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}}},
        ["volume data: mounts /etc"],
    ),
    "a password is not shown": (
        {"volumes": {"data": {"driver_opts": {"type": "cifs", "o": "password=x", "device": "//nas/a"}}}},
        ["volume data: mounts //nas/a"],
    ),
    "another driver": ({"volumes": {"data": {"driver": "rclone"}}}, ["volume data: driver rclone"]),
    "another project's": ({"volumes": {"data": {"external": True}}}, ["volume data: is another project's"]),
    "networks": ({"networks": {"default": {"driver": "bridge"}, "web": {"external": True, "name": "proxy"}}}, []),
    "the machine's network": ({"networks": {"a": {"external": True, "name": "host"}}}, ["network a: driver host"]),
    "another network": ({"networks": {"a": {"driver": "macvlan"}}}, ["network a: driver macvlan"]),
}


@pytest.mark.parametrize(("given", "said"), RESOURCES.values(), ids=list(RESOURCES))
def test_what_else_of_a_project_reaches_out_is_named(
    tmp_path: Path, runner: Runner, given: dict[str, Any], said: list[str]
) -> None:
    assert list(services.refused(read(tmp_path, runner, given))) == said


def test_a_link_is_followed_to_what_a_container_may_replace(tmp_path: Path, runner: Runner) -> None:
    """/srv/shop/conf is a link to data/conf, and the database may write to data: it could turn data/conf elsewhere."""
    project = tmp_path / "srv"
    (project / "data/conf").mkdir(parents=True)
    (project / "conf").symlink_to("data/conf")
    (project / "out").symlink_to("/etc")
    model = {
        "db": bind(f"{project}/data"), "web": bind(f"{project}/conf", read_only=True),
        "job": bind(f"{project}/out", read_only=True),
    }  # fmt: skip
    runner.expect("config --format json", json.dumps({"services": model}))
    config = make_config(tmp_path, runtime={"project_directory": str(project)}, database={"service": "db", "name": "a"})
    found = services.read(config, allowed.allowed_paths(config))
    contained = f"db: may write to {project}/data, which contains {project}/data/conf"
    assert services.refused(found) == (contained, "job: mounts /etc")


def test_each_is_allowed_by_its_name_only(tmp_path: Path, runner: Runner) -> None:
    model = {"services": {"web": {"privileged": True, "pid": "host"}, "db": {"privileged": True}}}
    found = read(tmp_path, runner, model, "web: privileged")
    assert services.refused(found) == ("db: privileged", "web: pid host")
    services.refuse(read(tmp_path, runner, model, "web: privileged", "db: privileged", "web: pid host"))


def test_a_directory_that_is_allowed_may_be_mounted(tmp_path: Path, runner: Runner) -> None:
    (web,) = read(tmp_path, runner, {"services": {"web": bind("/srv/data/web")}}, "/srv/data")
    assert web.beyond == ()


def test_a_plan_says_what_the_inventory_calls_each_service(tmp_path: Path, runner: Runner) -> None:
    ports = [{"published": "8000", "host_ip": "127.0.0.1"}, {"published": "80"}, {"target": 9}]
    found = read(tmp_path, runner, {"services": {"web": {"image": "web:1", "ports": ports}, "db": {}, "miner": {}}})
    assert [(one.name, one.role, one.image, one.ports) for one in found] == [
        ("db", "the database", "built here", ()),
        ("miner", "not named", "built here", ()),
        ("web", "a writer", "web:1", ("127.0.0.1:8000", "*:80")),
    ]
    assert services.check(found).detail == "3 services, none reaches out of its container"


def test_the_paths_of_an_unpacked_backup_are_those_of_the_machine(tmp_path: Path, runner: Runner) -> None:
    root = "/run/x/root"
    model = {"services": {"web": {**bind(f"{root}/srv/shop/data")}, "db": {**bind(f"{root}/etc")}}}
    found = read(tmp_path, runner, model, directory=f"{root}/srv/shop", root=root)
    assert services.refused(found) == ("db: mounts /etc",)
    assert "--project-directory /run/x/root/srv/shop" in runner.ran[-1]


def test_what_compose_cannot_read_is_not_gone_on_with(tmp_path: Path, runner: Runner) -> None:
    runner.expect("config", (1, "", "warning\nservices.web must be a mapping"))
    config = make_config(tmp_path)
    with pytest.raises(UnverifiedError, match="must be a mapping"):
        services.read(config, allowed.allowed_paths(config))


def test_a_hostile_name_is_one_line(tmp_path: Path, runner: Runner) -> None:
    found = read(tmp_path, runner, {"services": {"we\nb": {"image": "a\x1b[2J", "privileged": True}}})
    assert (found[0].name, found[0].image, found[0].beyond) == ("we\\nb", "a\\x1b[2J", ("we\\nb: privileged",))


def test_nothing_of_the_sample_stack_reaches_out(tmp_path: Path, runner: Runner) -> None:
    """The lab recovers as it did, without a word of anybody."""
    model = yaml.safe_load(LAB.read_text("utf-8"))
    for service in model["services"].values():  # in Compose's long form
        service["volumes"] = [{"type": "volume", "source": text.split(":")[0]} for text in service.get("volumes", ())]
        service["ports"] = [{"published": text} for text in service.get("ports", ())]
    found = read(tmp_path, runner, model)
    assert [one.name for one in found] == ["backend", "db", "frontend", "objects"]
    assert services.refused(found) == ()
