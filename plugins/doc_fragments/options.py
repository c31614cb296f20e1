# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that several modules have. Of each block module.py has the argument spec, under the same name."""

    IDENTITY = r"""
options:
  identity:
    description: The escrowed age identity, the text of its file. Held in memory only.
    type: str
    default: ""
"""

    WAIT = r"""
options:
  wait:
    description: Wait this many seconds for another run to end.
    type: int
    default: 0
"""

    TARGET = r"""
options:
  recovery_point:
    description:
      - The recovery point, or the component's own backup, to recover to. V(latest) asks for none in particular, so that
        what is healthy is left alone.
    type: str
    default: latest
  recovery_time:
    description:
      - Recover to the newest recovery point whose rows are of this ISO 8601 time or before, so that rows and objects
        asked for by one time are of one instant. Where there is none, to the newest backup taken until then.
    type: str
    default: ""
"""

    INSTANT = r"""
options:
  before:
    description:
      - With continuous protection, recover to the instant just before this. A table, as V(app.items), means its last
        loss; a transaction by its number; a position in the WAL, as V(0/A41607C8); a mark, as V(mark:before-upgrade).
      - With continuous protection O(recovery_time) is any instant, too, or V(latest).
    type: str
    default: ""
  timeline:
    description: The timeline that is meant, where two lived at the instant. V(0) names none.
    type: int
    default: 0
"""

    # Of a database's recovery.
    SCOPE = r"""
options:
  force:
    description: Recover even where the database is healthy and already what was asked for.
    type: bool
    default: false
  method:
    description:
      - V(auto) chooses. V(swap) restores next to a living server's database and renames. V(rebuild) quarantines the
        data directory and starts from an empty one. V(physical) quarantines it, too, and fills the new one from a base
        and the WAL behind it; of a server that is lost V(auto) does that where there is a base.
    type: str
    choices: [auto, swap, rebuild, physical]
    default: auto
  database:
    description:
      - The only database to replace in a server that answers. Empty means the application's, and each other one that
        is damaged.
    type: str
    default: ""
  others:
    description:
      - What becomes of databases that the server has and the backup does not hold, where the server is rebuilt.
        V(restore) copies each into the fresh server and compares it; V(aside) leaves it in the data directory that is
        put aside; V(ask) refuses such a plan, and the error names them.
    type: str
    choices: [ask, restore, aside]
    default: ask
"""

    ACCEPT = r"""
options:
  accept:
    description:
      - V(failed) uses the backup, or the recovery point, that was named although verifications of it failed, and lets
        through what the restore finds to differ. Neither becomes a pass. An error where none was named.
    type: str
    choices: ["", failed]
    default: ""
"""

    ALLOW = r"""
options:
  allow:
    description:
      - What of the configuration is let through by name. A path is placed as the backup has it, with all its bits, and
        what is below it may be placed.
      - "A service may do what the plan says of it, in the plan's words, as in C(web: privileged)."
    type: list
    elements: str
    default: []
"""

    HOLD = r"""
options:
  hold:
    description:
      - The plan is going to be carried out. A hold is left in the repository, for 24 hours, on what it recovers from,
        so that no retention deletes that before it is restored; none in check mode.
    type: bool
    default: false
"""

    RESTORE = r"""
options:
  place:
    description:
      - Where to take it from. V(auto) takes the repository's, and the copy in the vault where that one is broken or
        gone. V(repository_versions) and V(vault_versions) read what was published, by version, where it was hidden or
        overwritten since then.
    type: str
    choices: [auto, repository, vault, repository_versions, vault_versions]
    default: auto
  force:
    description: Restore even where this host remembers having recovered to that backup.
    type: bool
    default: false
  stamp:
    description: Suffix of the names it makes, C(YYYYMMDD_HHMMSS). Empty means now.
    type: str
    default: ""
"""

    SCENARIO = r"""
options:
  scenario:
    description: What is rehearsed.
    type: str
    required: true
    choices: [database, object_storage, files, dumps, backend, frontend, site]
"""

    DRILL = r"""
options:
  target_seconds:
    description: How long it may take; 0 is what the strategy gives the scenario.
    type: int
    default: 0
  rows:
    description: The rows of the drills before this one.
    type: list
    elements: dict
    default: []
  reason:
    description: Why there was a drill.
    type: str
    default: drill
  operator:
    description: The operator.
    type: str
    default: ""
"""
