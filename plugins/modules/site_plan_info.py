#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_plan_info
short_description: Plan the recovery of a whole site on this machine
version_added: 0.1.0
description:
  - Reads only, but for O(hold).
  - Says what is lost, what this machine has, which recovery point of the vault would be used and why, that
    every artefact of it is whole, that the key opens it, every file that would be placed, every service that would be
    started and what of it reaches out of its container, and every step that would be taken.
  - Fails when the site cannot, or must not, be recovered here, before anything is built. So it does where the site
    still lives.
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.target
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.hold
  - lifeboat.dr.options.allow
options:
  others:
    description: The stack's other machines, by name; what M(lifeboat.dr.site_scope_info) returned as
      RV(lifeboat.dr.site_scope_info#module:scope); a mapping C(failed) with the reason where it answered and could not
      be looked at, which counts as living; or, as text, why it was not reached.
    type: dict
    default: {}
  recovery_point:
    description: The recovery point to recover to. V(latest) asks for none in particular.
  recovery_time:
    description:
      - With continuous protection, recover to this ISO 8601 time, rows and objects, or to V(latest), each as far as it
        was received, or to V(consistent), the last instant that both have. Nothing named is V(latest).
      - Without it, or for a time before all that was received, to the newest recovery point of at or before this time.
    type: str
    default: ""
  before:
    description: With continuous protection, recover to this position in the WAL, as V(0/A41607C8); C(lifeboat when) and
      the evidence of an earlier recovery name positions.
    type: str
    default: ""
  timeline:
    description: The timeline that is meant, where two lived at the instant. V(0) names none.
    type: int
    default: 0
  rehearsal:
    description: Next to a living site. No backup is taken here and nobody is sent here.
    type: bool
    default: false
  cutover:
    description: The operator's hook, by its path, to be shown in the plan.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.site_plan_info:
    stack: shop
    others:
      shop1: >-
        {{ seen.scope | default('it was not reached' if seen.unreachable | default(false) else {'failed': seen.msg}) }}
    identity: "{{ lookup('ansible.builtin.file', identity_file) }}"
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as the modules of the recovery and M(lifeboat.dr.evidence) take it.
  returned: success
  type: dict
needed:
  description: Whether there is anything to do.
  returned: success
  type: bool
ready:
  description: Whether the vault was read; false where this machine lacks what that takes.
  returned: success
  type: bool
text:
  description: The plan as lines of text.
  returned: success
  type: list
  elements: str
log:
  description: What was done, line by line, as also written to the journal.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import (
    ACCEPT,
    ALLOW,
    HOLD,
    IDENTITY,
    INSTANT,
    TARGET,
    Result,
    Task,
    run,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import granted, instant, scope
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show


@dataclass(frozen=True)
class Planned:
    plan: object
    needed: bool
    ready: bool
    text: Sequence[str]


def work(task: Task) -> Result:
    given = task.params
    request = site_plan.Request(
        identity=given["recovery_point"],
        wish=instant.requested(given["recovery_time"], given["before"], given["timeline"]),
        rehearsal=given["rehearsal"],
        key=given["identity"],
        cutover=given["cutover"],
        accept=task.accept,
        allow=tuple(given["allow"]),
    )
    opened = granted.opened(Opened(task.config, given["identity"]))
    with recovery_state.planning(task.config):
        here = scope.assess_host(opened, deep=True, log=task.log)
        made = site_plan.make(opened, request, here, given["others"], log=task.log)
    text = site_show.text(made, here)
    if made.needed:
        text += hooks.planned(task.config, *made.parts)
    if task.holds and made.needed and made.ready and made.backup:
        text += sources.hold(opened, made.source, made.backup.id, "recover_site", task.now)
    return Result(Planned(typed.plain(made, nulls=True), made.needed, made.ready, text))


def main() -> None:
    run(
        work,
        {
            "others": {"type": "dict", "default": {}},
            **TARGET,
            **INSTANT,
            **ACCEPT,
            **HOLD,
            **ALLOW,
            **IDENTITY,
            "rehearsal": {"type": "bool", "default": False},
            "cutover": {"type": "str", "default": ""},
        },
    )


if __name__ == "__main__":
    main()
