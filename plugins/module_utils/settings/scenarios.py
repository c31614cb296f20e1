# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disasters that Lifeboat recovers from and rehearses: the only list of them."""

from __future__ import annotations

from dataclasses import dataclass

DATABASE, OBJECT_STORAGE, FILES, DUMPS, BACKEND, FRONTEND, SITE = (
    "database", "object_storage", "files", "dumps", "backend", "frontend", "site",
)  # fmt: skip
_LATER = ("data written after the backup", "it is in no backup; rpo says how much time that is")
ROWS = ("the database's rows", "this scenario does not restore them")
_OBJECTS = ("the bucket's objects", "this scenario does not restore them")


@dataclass(frozen=True)
class Scenario:
    """One disaster. Its playbook, its role and its runbook carry its name.

    target: seconds that a recovery may take where lifeboat_targets says nothing. faults: what a drill can break, the
    first where none is named; continuous: those of them that only a stack with continuous protection has. component:
    the one that it brings back, and that can be restored next to production. setting: a stack has the scenario where
    this is set. proofs: checks of which at least one must have been made, or nothing is proved; data: it brings data
    back, so that they compare that. untested: what it never proves, and why.
    """

    name: str
    target: int
    faults: tuple[str, ...]
    component: str = ""
    setting: str = "stack"
    proofs: tuple[str, ...] = ("tables", "objects", "data")
    data: bool = True
    untested: tuple[tuple[str, str], ...] = ()
    continuous: tuple[str, ...] = ()

    @property
    def playbook(self) -> str:
        return f"recover_{self.name}"

    @property
    def runbook(self) -> str:
        return f"runbook-{self.name.replace('_', '-')}"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            DATABASE, 4 * 3600,
            (
                "corrupted", "killed", "data_directory_emptied", "volume_removed", "table_dropped", "database_dropped",
                "receiver_killed", "slot_lost",
            ),
            component="database", setting="database.enabled", untested=(_LATER, _OBJECTS),
            continuous=("receiver_killed", "slot_lost"),
        ),
        Scenario(
            OBJECT_STORAGE, 2 * 3600,
            ("data_directory_emptied", "killed", "corrupted", "volume_removed", "objects_deleted", "bucket_deleted"),
            component="objects", setting="objects.bucket",
            untested=(
                ("objects written after the mirror", "they are in no backup; rpo says how much time that is"), ROWS,
            ),
        ),
        Scenario(
            FILES, 2 * 3600, ("volume_removed", "files_deleted", "files_altered", "files_encrypted"),
            component="files", setting="files.sources", proofs=("restore", "files"),
            untested=(("files written after the backup", "they are in no backup"), ROWS, _OBJECTS),
        ),
        Scenario(
            DUMPS, 4 * 3600, ("volume_removed", "data_directory_emptied", "killed"),
            component="dumps", setting="dumps.sources", proofs=("restore", "dumps"),
            untested=(_LATER, ROWS, _OBJECTS),
        ),
        Scenario(
            BACKEND, 3600, ("bad_image", "killed", "compose_file_broken", "environment_lost"),
            proofs=("application",), data=False, untested=(ROWS, _OBJECTS),
        ),
        Scenario(
            FRONTEND, 1800, ("build_broken", "domain_changed"), setting="frontend.url", proofs=("site",), data=False,
            untested=(
                ROWS, _OBJECTS, ("caches and DNS of visitors", "the site was asked from this machine only"),
            ),
        ),
        Scenario(
            SITE, 8 * 3600, ("power_off",),
            untested=(("data written after the recovery point", _LATER[1]),),
        ),
    )
}  # fmt: skip


def of_component(name: str) -> Scenario:
    """Return the scenario that brings this component back."""
    return next(scenario for scenario in SCENARIOS.values() if scenario.component == name)
