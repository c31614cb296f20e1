#!/usr/bin/env python3
"""Write sbom.json, a CycloneDX 1.6 bill of materials of the controller and the agent, from the locks and the roles.

The controller is what requirements.lock installs, with the collections that galaxy.yml names. The agent contains the
core alone, which uses the standard library; its host's packages are those that the roles install, in the version of the
host's distribution.
The same locks give the same file: it has no time, and its serial number is made of its content.

Usage: sbom.py            (by make lock)
       sbom.py --check    (by make lint)
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterable
from typing import Any

import yaml
from locks import LOCKS, ROOT, Pin, lists, named, pins

TARGET = ROOT / "sbom.json"
CONTROLLER = LOCKS[0]
SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://example.org/lifeboat/dr/sbom")
# The package that some hosts need, and for what. Its version is that of the host's distribution.
AGENT_PACKAGES = {
    "cron": "schedules",
    "logrotate": "logs of schedules",
    "tzdata": "schedules",
    "python3-boto3": "a repository, a bucket or a vault in S3",
    "age": "encryption",
    "zstd": "backups of the application's files and other databases",
    "git": "bundles of the stack's own repositories",
    "openssh-client": "signatures",
    "python3-psycopg2": "making an account for backups",
}
MONITORING_PACKAGES = {
    "prometheus-node-exporter": "metrics of a stack's host",
    "prometheus": "the host that watches",
    "prometheus-alertmanager": "the host that watches",
    "prometheus-blackbox-exporter": "addresses that the host that watches asks",
    "rsyslog": "shipping of a host's logs",
}
HOST_PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-compose-v2", "iptables", "ca-certificates")


def properties(**named: str) -> list[dict[str, str]]:
    return [{"name": f"lifeboat:{name}", "value": value} for name, value in named.items() if value]


def python_package(pin: Pin, direct: Iterable[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{pin.name}@{pin.version}"
    known = properties(marker=pin.marker, list="named" if pin.name in direct else "", lock=CONTROLLER.path)
    scope = "optional" if "win32" in pin.marker else "required"
    return {"type": "library", "bom-ref": purl, "name": pin.name, "version": pin.version, "scope": scope, "purl": purl,
            "properties": known}  # fmt: skip


def host_package(name: str, needed_for: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{name}"
    return {"type": "application", "bom-ref": purl, "name": name, "scope": "optional", "purl": purl,
            "properties": properties(needed_for=needed_for)}  # fmt: skip


def collection(name: str, bound: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": f"collection:{name}", "name": name, "scope": "required",
            "properties": properties(range=bound)}  # fmt: skip


def made() -> dict[str, Any]:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    direct = {named(line) for line in lists(CONTROLLER)}
    controller = [python_package(pin, direct) for pin in pins((ROOT / CONTROLLER.path).read_text(encoding="utf-8"))]
    controller += [collection(name, bound) for name, bound in sorted(galaxy["dependencies"].items())]
    hosts = [host_package(name, why) for name, why in sorted({**AGENT_PACKAGES, **MONITORING_PACKAGES}.items())]
    hosts += [host_package(name, "the role docker_host") for name in sorted(HOST_PACKAGES)]
    version, license_id = galaxy["version"], galaxy["license"][0]
    name = f"{galaxy['namespace']}.{galaxy['name']}"

    def application(ref: str, description: str) -> dict[str, Any]:
        return {"type": "application", "bom-ref": ref, "name": ref, "version": version, "description": description,
                "licenses": [{"license": {"id": license_id}}]}  # fmt: skip

    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "pre-build"}], "component": application(name, galaxy["description"])},
        "components": [
            application("lifeboat-controller", "What make setup installs, to run the playbooks and to test them."),
            application("lifeboat-agent", "The command on each host: the core, which uses Python's standard library."),
            *controller,
            *hosts,
        ],
        "dependencies": [
            {"ref": name, "dependsOn": ["lifeboat-agent", "lifeboat-controller"]},
            {"ref": "lifeboat-controller", "dependsOn": sorted(part["bom-ref"] for part in controller)},
            {"ref": "lifeboat-agent", "dependsOn": sorted(part["bom-ref"] for part in hosts)},
        ],
    }
    return {**document, "serialNumber": f"urn:uuid:{uuid.uuid5(SPACE, json.dumps(document, sort_keys=True))}"}


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def packages_of_roles() -> set[str]:
    """What the roles install on a host, as their vars name it."""
    agent = (ROOT / "roles/agent/vars/main.yml").read_text(encoding="utf-8")
    lines = re.findall(r"^__agent\w*packages:.*?(?=^\S)", agent, re.MULTILINE | re.DOTALL)
    docker = yaml.safe_load((ROOT / "roles/docker_host/vars/main.yml").read_text(encoding="utf-8"))
    in_lists = {
        name
        for line in lines
        for found in re.findall(r"\[('[^]]+)\]", line)
        for name in re.findall(r"'([^']+)'", found)
    }
    tasks = "".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("roles/*/tasks/*.yml")))
    given = re.findall(
        r"ansible\.builtin\.(?:package|apt|dnf):\n\s+name: ([\w.-]+|\[[\w., -]+\])$", tasks, re.MULTILINE
    )
    in_tasks = [name for names in given for name in re.findall(r"[\w.-]+", names)]
    return in_lists.union(in_tasks, *docker["__docker_host_distribution_packages"].values())


def problems(found: str) -> list[str]:
    """What keeps sbom.json from being true."""
    listed = {*AGENT_PACKAGES, *MONITORING_PACKAGES, *HOST_PACKAGES}
    wrong = [f"the roles install {name}, which sbom.py does not list" for name in sorted(packages_of_roles() - listed)]
    wrong += [f"sbom.py lists {name}, which no role installs" for name in sorted(listed - packages_of_roles())]
    if found != text_of(made()):
        wrong.append(f"{TARGET.name} is not what the locks, galaxy.yml and the roles say: run make lock")
    return wrong


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        found = problems(TARGET.read_text(encoding="utf-8") if TARGET.exists() else "")
        print("".join(f"sbom: {problem}\n" for problem in found), end="", file=sys.stderr)
        return bool(found)
    TARGET.write_text(text_of(made()), encoding="utf-8")
    print(f"sbom: wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
