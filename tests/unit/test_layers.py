# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The core's packages stand in ranks: arrows go down only, files make no circle, and each module takes little along."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import layers
import pytest

MODULES = sorted((layers.ROOT / "plugins" / "modules").glob("*.py"))
HEAVY = {"agent"}  # the whole command


def test_arrows_go_down_only(capsys: pytest.CaptureFixture[str]) -> None:
    print("\n".join(layers.table()))
    assert layers.offences() == []
    assert "base" in capsys.readouterr().out


LAZY = "\n\ndef late() -> None:\n    from ..command import cli  # noqa: PLC0415\n"
TYPES = "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from ..database.plan import Assessment\n"
PLANTED = {
    "a lazy import upward": ("base/text.py", LAZY, "base/text imports command/cli, which stands below it"),
    "one for type checkers": ("stack/runtime.py", TYPES, "stack/runtime imports database/plan, which stands below it"),
    "a circle": ("base/errors.py", "\nfrom . import clock\n", "a circle among base/clock, base/errors"),
    "importlib": ("base/lock.py", "\nimport importlib\nimportlib.import_module('x')\n", "base/lock imports by name"),
    "from importlib": ("base/lock.py", "\nfrom importlib import import_module as load\n", "base/lock imports by name"),
    "a file in no package": ("flat.py", "", "flat: a file of the core stands in a package"),
    "a package without a rank": ("attic/old.py", "", "attic/old: attic has no rank"),
    "a file that is not there": ("base/lock.py", "\nfrom . import gone\n", "base/lock imports base/gone, which is not"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(tmp_path: Path, planted: str) -> None:
    name, text, said = PLANTED[planted]
    core = tmp_path / "core"
    shutil.copytree(layers.CORE, core, ignore=shutil.ignore_patterns("__pycache__"))
    assert layers.offences(core) == [], "the intact core passes"
    path = core / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    assert said in "\n".join(layers.offences(core))


core = functools.cache(layers.graph)


def payload(path: Path) -> set[str]:
    """The core's files that Ansible sends along with a module."""
    found = core()
    return layers.closure(found, *layers.used_by(path, found))


def test_a_module_takes_little_along() -> None:
    sizes = {path.stem: len(payload(path)) for path in MODULES if path.stem not in HEAVY}
    mean = sum(sizes.values()) / len(sizes)
    print(f"{mean:.1f} files of the core go along with a module, {max(sizes.values())} at most", sizes)
    # The gauge of long work and the frame of a phase go along with each; the formats of WAL with prune and verify, and
    # what stands at an instant, and fills a lost server from there, with the plan of a database;
    # where a dump's snapshot is in the WAL with what dumps, and the server that proves a base with verify;
    # what leads to an instant with the plan of a site;
    # what reads the WAL, and looks at the objects, with the drill that goes back to an instant;
    # what sends spans on to the vault with what says how they stand there; how the receiver is with `status`;
    # that, and what can be gone back to, with the two modules of a drill that breaks continuous protection.
    assert mean < 73


def test_faults_go_to_hosts_marked_for_drills_only() -> None:
    """The modules that only a drill runs, and never the command."""
    carriers = {path.stem for path in MODULES if any(name.startswith("drill/faults/") for name in payload(path))}
    assert carriers == {"drill_begin", "drill_end", "drill_fault"}
