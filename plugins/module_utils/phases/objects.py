# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of an object store: the order of its phases, as the role object_storage_recovery has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..base import clock
from ..base.checks import PASS
from ..base.errors import LifeboatError
from ..settings.config import Config
from ..settings.scenarios import OBJECT_STORAGE
from ..stack.runtime import Opened
from ..vault import endpoints
from . import objects_plan, objects_protect, objects_restore, stack_reopen
from .database import CLOSED, is_closed
from .recovery import Phase, Recovery, State, assessment, mapping, of_plan, steps, texts
from .step import Options

_MOVED = re.compile("The old data lies in .*")
# By the playbook's names: the module calls `settings` bucket_settings, as every module has the stack's settings.
OPTIONS: Options = {
    **{name: option for name, option in objects_plan.OPTIONS.items() if name != "bucket_settings"},
    "settings": objects_plan.OPTIONS["bucket_settings"],
    "sample": objects_restore.OPTIONS["sample"],
    "preflight_vault": {"type": "str", "choices": ["true", "false"], "default": "true"},
}


def ready(config: Config, state: State) -> None:
    """Refuse a vault from which nothing could be recovered, before anything is looked at."""
    if state.request.text("preflight_vault") == "false":
        return
    seen = endpoints.ready(Opened(config), now=clock.start().started_at)
    if seen.result != PASS:
        raise LifeboatError(
            "recover the objects", config.stack, f"{seen.detail} Nothing was changed",
            "If only services that an earlier recovery stopped are to be started again, run the same command with"
            " --preflight-vault false",
        )  # fmt: skip


def _restore(state: State) -> Mapping[str, object]:
    plan, asked = state.plan, state.request
    backup = mapping(plan.get("backup"))
    return {
        "id": backup.get("id"),
        "place": backup.get("place"),
        "prefix": asked.text("prefix"),
        "identity": asked.identity,
        "exact": bool(asked.options.get("exact")),
        "partial": bool(asked.options.get("partial")),
        "sample": int(asked.text("sample") or 0),
        "fresh": state.result("protected").get("fresh"),
        "asked": plan.get("asked"),
        "state": plan.get("state"),
        "bucket": plan.get("bucket"),
        "others": plan.get("others"),
        "newer": plan.get("newer"),
        "bucket_settings": "only" if plan.get("mode") == "settings" else plan.get("settings"),
        "stamp": plan.get("stamp"),
        "accept": asked.text("accept"),
        "force": True,
    }


def _is_needed(state: State) -> bool:
    return state.result("protected").get("mode") != "started"


def _services(state: State) -> Mapping[str, object]:
    """The object store itself, too: an endpoint that is not of this stack has no service."""
    return {"services": [name for name in (*texts(state.plan.get("writers")), state.plan.get("service")) if name]}


def _is_as_found(state: State) -> bool:
    """Whether no new server was started: the application has at least what it had before."""
    return state.result("protected").get("mode") == "fill" and state.failed("restored")


def _moved(state: State) -> list[str]:
    """How to go back; a protect phase that failed after it had moved the data says in its remedy where that is."""
    protected = state.result("protected")
    return texts(protected.get("way_back")) or _MOVED.findall(str(protected.get("remedy") or ""))


def _state(state: State) -> str:
    protected, restored = state.result("protected"), state.result("restored")
    if not protected or state.failed("protected"):
        moved = "; the data was moved aside" if _moved(state) else ""
        return f"the writers may be stopped; no object was removed or overwritten{moved}"
    if restored and not state.failed("restored"):
        well = state.result("reopened").get("verdict") == PASS
        return f"the objects are restored; the application is {'well' if well else 'not well yet'}"
    if protected.get("mode") == "fill":
        ends = (
            f"{CLOSED}: a bucket of it was missing or empty"
            if is_closed(state)
            else "the application was started again"
        )
        return f"the server lives, some objects may be back already, none was lost by this, and {ends}"
    if protected.get("mode") == "settings":
        return "no object was touched and nothing was stopped; some settings of the bucket may be put back already"
    return (
        "the server is fresh and holds only some of the objects, the application stays stopped, and mirrors are refused"
        f" until a recovery ends; the old data lies in {protected.get('quarantine') or 'its place'}"
    )


def _way_back(state: State) -> Sequence[str]:
    return (f"way back to the old data: {'; '.join(_moved(state)) or 'not needed'}",)


RECOVERY = Recovery(
    scenario=OBJECT_STORAGE,
    role="object_storage_recovery",
    ready=ready,
    options=OPTIONS,
    assess=assessment(objects_plan, bucket_settings="settings"),
    phases=(
        Phase("protected", objects_protect, of_plan),
        Phase("restored", objects_restore, _restore, _is_needed),
        Phase("reopened", stack_reopen, _services),
    ),
    after_failure=(Phase("restarted", stack_reopen, _services, _is_as_found),),
    steps=steps(plan="assess", protected="protect", restored="restore", reopened="reopen"),
    state=_state,
    way_back=_way_back,
    remedy=lambda state: "mend the cause, then run the same command again; what is right already is not copied again",
)
