#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_info
short_description: Report what a stack's S3 endpoints can do
version_added: 0.1.0
description:
  - Tries versioning, the listed times of versions, lifecycle rules, object lock, tags, metadata and uploads in parts
    at the stack's own object store and at the vault. A feature is supported only where its effect was seen, such as an
    old version read back.
  - Everything is tried in a bucket named C(lifeboat-probe-…), made for it and removed. No other bucket is written to.
    Where the key may not make buckets, the answer is C(unknown).
  - What was found is remembered for a day on the host.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  endpoint:
    description: Which of the two. Empty means those that are configured.
    type: str
    choices: ["", source, vault]
    default: ""
  fresh:
    description: Try again, however young the last result is.
    type: bool
    default: false
  look:
    description: Make nothing. Look only whether the vault answers, takes the key, and has its bucket with versions to
      recover from; in check mode, too.
    type: bool
    default: false
attributes:
  check_mode:
    support: partial
    details: Trying makes a bucket and removes it. In check mode only what is remembered is returned.
  diff_mode:
    support: none
    details: Changes nothing that stays.
"""

EXAMPLES = r"""
- name: See what the endpoints do
  lifeboat.dr.endpoint_info:
    stack: shop
  register: found

- name: See that the vault can be recovered from
  lifeboat.dr.endpoint_info:
    stack: shop
    look: true
  register: ready

- name: See what any endpoint does
  lifeboat.dr.endpoint_info:
    endpoint: vault
    fresh: true
    settings:
      stack: any
      runtime: {project: any}
      vault: {endpoint_url: https://s3.example.org, objects_bucket: any}
    secrets: {vault_access_key: "{{ key }}", vault_secret_key: "{{ secret }}"}
"""

RETURN = r"""
endpoints:
  description: What each endpoint does, by C(source) and C(vault). None was tried and none is remembered in check mode,
    where a key is missing.
  returned: success
  type: dict
  sample:
    vault:
      endpoint: http://vault1:8333
      server: SeaweedFS 4.48
      probed_at: "2026-11-24T03:00:00.000Z"
      clock_skew: 0.0
      features:
        versioning: {state: supported, detail: an overwritten and deleted object was read back, cost: ""}
      left: []
lacking:
  description: What is missing and what it costs, as text.
  returned: success
  type: list
  elements: str
checks:
  description: Whether each endpoint can do what the stack needs of it, C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: success
  type: list
  elements: dict
  sample: [{name: vault endpoint, result: PASS, detail: "SeaweedFS 4.48"}]
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.endpoints import SOURCE


@dataclass(frozen=True)
class Facts:
    endpoints: Mapping[str, object]
    lacking: Sequence[str]
    checks: Sequence[Check]


def work(task: Task) -> Result:
    asked, fresh = task.params["endpoint"], task.params["fresh"]
    opened, places = Opened(task.config), endpoints.configured(task.config)
    if asked and asked not in places:
        raise UsageError(
            "try the endpoint", asked, "it is not configured", "Set lifeboat_objects, lifeboat_vault and deploy."
        )
    if task.params["look"]:
        seen = endpoints.ready(opened, now=task.now)
        task.log(f"{seen.result}  {seen.name}  {seen.detail}")
        return Result(Facts({}, (), (seen,)))
    found = {}
    for place in [asked] if asked else places:
        if task.check:
            report = endpoints.remembered(task.config, place, now=task.now)
        else:
            report = endpoints.report(opened, place, now=task.now, fresh=fresh)
        if report is not None:
            found[place] = report
    lacking = [f"{place}: {line}" for place, report in found.items() for line in endpoints.lacking(place, report)]
    if SOURCE in found:
        lacking += [f"{SOURCE}: {gap.what}: {gap.why}" for gap in store.read_store(opened).left]
    checks = [endpoints.check(task.config, *item) for item in found.items()]
    if SOURCE in found and not task.check:
        may = endpoints.permissions(opened)
        checks.append(may)
        lacking += [f"{may.name}: {may.detail}"] if may.result != PASS else []
    for line in lacking:
        task.log(line)
    shown = {place: typed.plain(report, nulls=True) for place, report in found.items()}
    return Result(Facts(shown, lacking, checks))


def main() -> None:
    run(
        work,
        {
            "endpoint": {"type": "str", "choices": ["", "source", "vault"], "default": ""},
            "fresh": {"type": "bool", "default": False},
            "look": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
