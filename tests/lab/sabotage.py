"""A copy of the collection in which a recovery does not do the one thing it is for.

Usage: sabotage.py DIRECTORY SCENARIO...

For the proof that a drill turns red: a check that nobody has seen fail checks nothing.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# By scenario, the task file of its role that brings back what was lost.
STEPS = {
    "database": "restore.yml",
    "object_storage": "restore.yml",
    "files": "recover.yml",
    "dumps": "recover.yml",
    "backend": "restore.yml",
    "frontend": "recover.yml",
    "site": "database.yml",
}


def sabotage(directory: Path, scenarios: list[str]) -> None:
    """Write ansible_collections/lifeboat/dr below `directory`; raises ValueError where there is no step to take out."""
    copy = directory / "ansible_collections" / "lifeboat" / "dr"
    for part in ("playbooks", "roles", "plugins", "meta"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", copy)
    for scenario in scenarios:
        path = copy / "roles" / f"{scenario}_recovery" / "tasks" / "main.yml"
        text = path.read_text(encoding="utf-8")
        step = f"ansible.builtin.include_tasks: {STEPS[scenario]}"
        if text.count(step) != 1:
            raise ValueError(f"{path}: {step} is there {text.count(step)} times")
        path.write_text(text.replace(step, "ansible.builtin.debug: {msg: left out}"), encoding="utf-8")


if __name__ == "__main__":
    sabotage(Path(sys.argv[1]), sys.argv[2:])
