# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab says of a machine that cannot hold it, and in what order it provides an engine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from test_awx import render

ROOT = Path(__file__).resolve().parents[2]
FULL = "Name:\tx\nCapEff:\t000001ffffffffff\n"
DEFAULT = "Name:\tx\nCapEff:\t00000000a80425fb\n"  # what `docker run` gives a container


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lab_{name}", ROOT / f"tests/lab/{name}.py")
    assert spec and spec.loader
    monkeypatch.syspath_prepend(str(ROOT / "tests/lab"))
    forge = ModuleType("forge")  # the folder; other tests import the file of this name in it
    forge.__path__ = [str(ROOT / "tests/lab/forge")]
    monkeypatch.setitem(sys.modules, "forge", forge)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_a_machine_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = script("needs", monkeypatch)
    assert needs.of_machine(FULL) == []
    (capabilities,) = needs.of_machine(DEFAULT)
    assert "CAP_NET_ADMIN and CAP_SYS_ADMIN" in capabilities and "--privileged" in capabilities


@pytest.mark.parametrize(
    ("version", "compose", "wanted"),
    [("2", 0, []), ("1", 0, ["cgroup v1"]), ("2", 1, ["Docker's own repository"])],
    ids=["all there", "cgroup v1", "no Compose v2"],
)
def test_an_engine_is_asked(monkeypatch: pytest.MonkeyPatch, version: str, compose: int, wanted: list[str]) -> None:
    needs = script("needs", monkeypatch)
    answers = {"info": (0, version), "compose": (compose, "")}
    monkeypatch.setattr(needs, "docker", lambda *argv: answers[argv[0]])
    found = needs.of_engine()
    assert len(found) == len(wanted)
    assert all(words in note for words, note in zip(wanted, found))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("write /var/lib: no space left on device", "disk's space"),
        ("mount: permission denied (are you root?)", "--privileged"),
        ("OCI runtime: operation not permitted", "--privileged"),
        ("something else", "docker system df"),
    ],
)
def test_the_advice_is_for_the_cause(monkeypatch: pytest.MonkeyPatch, said: str, wanted: str) -> None:
    assert wanted in script("images", monkeypatch).advice(said)


def test_a_privileged_container_is_started_before_an_image_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may not be started the lab stopped after three minutes of building, in the cache."""
    images = script("images", monkeypatch)
    calls: list[str] = []

    def docker(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        del timeout
        calls.append(" ".join(argv))
        refused = argv[0] == "run" and "mount: operation not permitted"
        return subprocess.CompletedProcess(argv, 125 if refused else 0, "", refused or "")

    monkeypatch.setattr(images, "docker", docker)
    monkeypatch.setattr(images, "ensure", lambda name, *_arguments: calls.append(f"build {name.tag}"))
    with pytest.raises(images.BuildError, match=r"exited 125: mount: operation not permitted\nNext: .*--privileged"):
        images.ensure_all(list(images.IMAGES), check=False)
    assert calls[-1] == f"run --rm --privileged --network=none {images.BASE} true"
    assert not [call for call in calls if call.startswith("build")]
    calls.clear()
    images.ensure_all(["postgres"], check=False)
    assert "build lifeboat-lab/postgres:17" in calls, "tests that need no host need no such container"
    assert not [call for call in calls if call.startswith("run")]


def tasks() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((ROOT / "molecule/shared/roles/lab/tasks/engine.yml").read_text(encoding="utf-8"))
    return [inner for task in loaded for inner in task.get("block", [task])]


@pytest.mark.parametrize(
    ("distribution", "major", "packages"),
    [
        ("Debian", "12", ["docker.io", "iptables"]),  # docker-cli is not there, docker-compose is version 1
        ("Debian", "13", ["docker.io", "iptables", "docker-cli", "docker-compose"]),
        ("Debian", "n/a", ["docker.io", "iptables", "docker-cli", "docker-compose"]),
        ("Ubuntu", "24", ["docker.io", "iptables", "docker-compose-v2"]),
    ],
)
def test_only_packages_that_the_release_has(distribution: str, major: str, packages: list[str]) -> None:
    (install,) = [task for task in tasks() if "ansible.builtin.apt" in task]
    facts = {"distribution": distribution, "distribution_major_version": major}
    assert render(install["ansible.builtin.apt"]["name"], {"ansible_facts": facts}) == packages


def test_what_is_installed_is_started_and_not_installed() -> None:
    """Docker was there, not running, and the lab asked apt for a package that the release does not have."""
    (install,) = [task for task in tasks() if "ansible.builtin.apt" in task]
    assert install["when"] == "__lab_engine_installed.rc != 0"
    names = [task["name"] for task in tasks()]
    assert names.index("engine | Find out whether one is installed") < names.index(install["name"])
    assert names.index("engine | See what this machine lacks") < names.index(install["name"])


def test_an_image_is_built_from_the_same_modes_whatever_the_umask_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = script("images", monkeypatch)
    source = tmp_path / "images" / "postgres"
    source.mkdir(parents=True)
    (source / "site").mkdir()
    for name, mode in (("Dockerfile", 0o600), ("entrypoint.sh", 0o700), ("site/index.html", 0o600)):
        (source / name).write_text("", encoding="utf-8")
        (source / name).chmod(mode)
    source.chmod(0o700)
    copied: dict[str, int] = {}

    def docker(*words: str, **_options: Any) -> Any:
        if words[0] == "build":
            context = Path(words[-1])
            paths = [path for path in (context, *context.rglob("*")) if not path.is_symlink()]
            copied.update({str(path.relative_to(context)): path.stat().st_mode & 0o7777 for path in paths})
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(images, "HERE", tmp_path / "images")
    monkeypatch.setattr(images, "docker", docker)
    image = images.IMAGES["postgres"]
    before = images.inputs_hash(image, "parent")
    umask = os.umask(0o077)
    try:
        images.build(image, before, tmp_path)
    finally:
        os.umask(umask)
    assert copied == {
        ".": 0o755, "Dockerfile": 0o644, "entrypoint.sh": 0o755, "site": 0o755, "site/index.html": 0o644
    }  # fmt: skip
    (source / "Dockerfile").chmod(0o644)
    assert images.inputs_hash(image, "parent") == before, "the same in Git"
    (source / "entrypoint.sh").chmod(0o600)
    assert images.inputs_hash(image, "parent") != before, "another one in Git"
