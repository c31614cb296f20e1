# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = """
name: brief
type: stdout
short_description: what an operator reads during a recovery, and no more
version_added: 0.1.0
author: The Lifeboat founders (@lifeboat)
description:
  - Shows messages, one line for each step of Lifeboat with the time that it took, one line for each task of another
    collection that changed something, and every error, warning and deprecation. Other tasks are not shown.
  - Of the record of a recovery or a drill it shows the verdict, the checks that are not PASS and the way back. The rest
    is in the evidence on the host.
  - An error is shown once for each host, without the other values that the module returned.
  - With C(-v) and above it is the default callback.
  - A step is shown when its module returns. A module that takes long says before it how to follow it on the host.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - C(stdout_callback = lifeboat.dr.brief) in ansible.cfg, or C(ANSIBLE_STDOUT_CALLBACK=lifeboat.dr.brief)
notes:
  - The options decide what is shown with C(-v); without it only O(display_failed_stderr), O(show_custom_stats) and
    O(check_mode_markers) do.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from textwrap import dedent
from typing import Concatenate, ParamSpec

from ansible import constants as C
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.fqcn import add_internal_fqcns
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import printable

P = ParamSpec("P")
COLLECTION = "lifeboat.dr."
# Steps that an operator does not wait for.
SILENT = {"endpoint_info", "evidence", "evidence_info", "site_phase", "site_scope_info"}
# What a record's text repeats, by the module that returned it: the plan and the phases were shown while it ran.
SEEN = ("found:", "backup:", "          passed over", "phase:")
RECORDS = {"evidence": SEEN, "drill_end": SEEN, "drill_beside": ()}
# A confirmed plan was read before it was confirmed; a plan that asks for the confirmation is shown whole.
PLAN_LINES = 16
NOT_PASSED = 8
OUTPUT_LINES = 5
# The name of a task that may take long says so.
FOLLOW = "follow it on the host"
REOPEN = "reopen | Start the application and ask its endpoints"
FAIL = add_internal_fqcns(("fail",))


def lines_of(message: object) -> list[str]:
    """A message as Ansible has it: text, or a list of lines."""
    parts = message if isinstance(message, Sequence) and not isinstance(message, str) else [message]
    return [line for part in parts for line in str(part).rstrip().splitlines() or [""]]


def shortened(lines: Sequence[str], most: int, rest: str) -> list[str]:
    return list(lines) if len(lines) <= most else [*lines[: most - 1], f"… {len(lines) - most + 1} more {rest}"]


def seconds_of(phase: Mapping[str, object]) -> float:
    """By the monotonic clock where it is there; a site's phases, which outlive a boot, have times only."""
    ticks = phase.get("monotonic")
    if isinstance(ticks, Sequence) and len(ticks) == 2:
        return float(ticks[1]) - float(ticks[0])
    return (parse_time(str(phase["finished_at"])) - parse_time(str(phase["started_at"]))).total_seconds()


def step(name: str, phase: Mapping[str, object], parts: object = None) -> str:
    """One line for what took time: `    10.6 s  protect | Stop the writers`."""
    within = ", ".join(f"{part} {spent:.1f} s" for part, spent in parts.items()) if isinstance(parts, Mapping) else ""
    name = name.partition(f" ({FOLLOW}")[0]
    return f"{seconds_of(phase):8.1f} s  {name}" + (f" ({within})" if within else "")


def root_cause(exception: object) -> str:
    """The last in the chain of what Ansible knows of a failure; "" where it knows nothing."""
    event = getattr(exception, "event", None)
    while later := getattr(getattr(event, "chain", None), "event", None):
        event = later
    return str(getattr(event, "msg", "")).strip()


def error_lines(result: Mapping[str, object], cause: str = "") -> list[str]:
    """What a module says of its failure, its cause, and the end of what a program said."""
    if "censored" in result:
        return ["its output is hidden (no_log)"]
    found = lines_of(result.get("msg") or "it failed without a message")
    if "assertion" in result and found == ["Assertion failed"]:
        found.append(f"not true: {result['assertion']}")
    if cause and isinstance(result.get("msg"), str) and not any(cause in line for line in found):
        found.append(f"  {cause}")
    for name in ("module_stderr", "stderr", "module_stdout", "stdout"):
        if output := str(result.get(name) or "").strip():
            return [*found, *(f"  {line}" for line in output.splitlines()[-OUTPUT_LINES:])]
    return found


def record_lines(text: Iterable[str], repeated: Sequence[str]) -> Iterator[str]:
    """A record's text in short: all that is not PASS, and how much there is of the rest."""
    counts: Counter[str] = Counter()
    for line in text:
        if line.startswith(("FAIL ", "COULD_NOT_VERIFY ")):
            counts["not passed"] += 1
            if counts["not passed"] > NOT_PASSED:
                continue
        elif line.startswith("PASS "):
            counts["PASS"] += 1
            continue
        elif line.startswith("not tested:"):
            counts["not tested"] += 1
            continue
        elif line.startswith(tuple(repeated)):
            continue
        yield line
    if counts["not passed"] > NOT_PASSED:
        yield f"… {counts['not passed'] - NOT_PASSED} more checks that are not PASS"
    if rest := ", ".join(f"{counts[name]} {name}" for name in ("PASS", "not tested") if counts[name]):
        yield f"checks:   {rest}; each is in the evidence"


def module_of(task: Task) -> str | None:
    """The module's name where it is one of this collection."""
    action = str(task.resolved_action or task.action)
    return action.removeprefix(COLLECTION) if action.startswith(COLLECTION) else None


def or_default(
    method: Callable[Concatenate[CallbackModule, P], None],
) -> Callable[Concatenate[CallbackModule, P], None]:
    """Without -v this method. With -v, and where this method fails (it may have an error to show), the default's."""

    @wraps(method)
    def shown(self: CallbackModule, /, *args: P.args, **options: P.kwargs) -> None:
        if self._display.verbosity == 0:
            try:
                method(self, *args, **options)
                return
            except Exception as error:
                self._display.warning(
                    f"{self.CALLBACK_NAME}: {method.__name__}: {error!r}; the default callback takes over"
                )
        getattr(Default, method.__name__)(self, *args, **options)

    return shown


class CallbackModule(Default):  # type: ignore[misc] # Ansible has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lifeboat.dr.brief"

    def __init__(self) -> None:
        super().__init__()
        self._last_task_banner: object = None
        self._confirmed = False
        # By host: the errors and ways back that were shown, the texts of plans and records, how many phases of a site.
        self._displayed: defaultdict[str, set[str]] = defaultdict(set)
        self._plans: dict[str, list[str]] = {}
        self._records: dict[str, tuple[list[str], Sequence[str]]] = {}
        self._phases: dict[str, int] = {}
        self._waiting: set[tuple[str, str]] = set()

    def _show(self, result: CallbackTaskResult, lines: Iterable[str], color: str = "", stderr: bool = False) -> None:
        label = self.host_label(result)
        for line in lines:
            self._display.display(f"{label} | {printable(line)}", color=color or None, stderr=stderr)

    @or_default
    def v2_playbook_on_play_start(self, play: Play) -> None:
        self._play = play
        self._phases.clear()
        self._confirmed = bool(play.get_variable_manager().extra_vars.get("confirm"))
        mode = " (check mode)" if play.check_mode else ""
        self._display.display(f"\n{play.get_name().strip() or 'play'}{mode}")

    @or_default
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        pass

    @or_default
    def _task_start(self, task: Task, prefix: str | None = None) -> None:
        if FOLLOW in (task.name or ""):
            self._display.display(f"… {task.name}")

    @or_default
    def _print_task_banner(self, task: Task) -> None:
        """The default callback says it before a diff, too."""
        if self._last_task_banner != task._uuid:
            self._display.display(f"\n{task.get_name().strip()}")
            self._last_task_banner = task._uuid

    @or_default
    def v2_playbook_on_include(self, included_file: object) -> None:
        pass

    @or_default
    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)
        if isinstance(result.task, TaskInclude):
            return
        if result.task.loop and "results" in result.result:
            if result.result.get("changed"):
                self._changed(result)
            return
        self._item(result)
        if result.result.get("changed"):
            self._changed(result)

    @or_default
    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)
        if not isinstance(result.task, TaskInclude):
            self._item(result)

    def _item(self, result: CallbackTaskResult) -> None:
        """What a task, or one item of its loop, has to tell."""
        name = module_of(result.task)
        if name is not None:
            self._remember(result, name)
            self._step(result, name)
        elif result.result.get("_ansible_verbose_always"):
            self._message(result)

    def _remember(self, result: CallbackTaskResult, name: str) -> None:
        host, text = result.host.get_name(), lines_of(result.result.get("text") or [])
        if name in RECORDS:
            self._records[host] = (text, RECORDS[name])
            self._phases.pop(host, None)
        elif name.endswith("_plan_info"):
            self._plans[host] = text

    def _step(self, result: CallbackTaskResult, name: str) -> None:
        host, returned = result.host.get_name(), result.result
        if name == "site_phase":
            # The modules between two of these belong to a phase, which is shown when it ends.
            ended = returned.get("phases") or []
            self._show(result, (step(phase["name"], phase) for phase in ended[self._phases.get(host, 0) :]))
            self._phases[host] = len(ended)
        elif name not in SILENT and host not in self._phases and "phase" in returned:
            self._show(result, [step(result.task_name, returned["phase"], returned.get("seconds"))])
            if "reopened" in returned:  # a second phase of the same module
                self._show(result, [step(REOPEN, returned["reopened"]["phase"])])

    def _changed(self, result: CallbackTaskResult) -> None:
        if module_of(result.task) is None and result.host.get_name() not in self._phases:
            self._show(result, [f"   changed  {result.task_name}"], C.COLOR_CHANGED)

    def _message(self, result: CallbackTaskResult) -> None:
        self._clean_results(result.result, result.task.action)
        message, host = result.result.get("msg"), result.host.get_name()
        if message == "All assertions passed":
            return
        parts = message if isinstance(message, list) else [message]
        readable = all(isinstance(part, str) for part in parts)
        lines = lines_of(message if readable else dedent(self._dump_results(result.result)).strip())
        text, repeated = self._records.get(host, ([], ()))
        if text and set(text) <= set(lines):
            lines = [
                line
                for line in record_lines(lines, repeated)
                if not line.startswith(("error:", "kept:", "way back:")) or self._is_new(host, line)
            ]
        elif self._confirmed and lines == self._plans.get(host):
            lines = shortened(lines, PLAN_LINES, "lines: the same command without confirm shows them, or with -v")
        self._show(result, lines)

    def _is_new(self, host: str, text: str) -> bool:
        """Return whether this line was not shown yet. A record repeats an error after the word `error:`."""
        text = text.removeprefix("error:").strip()
        new = text not in self._displayed[host]
        self._displayed[host].add(text)
        return new

    @or_default
    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._handle_warnings(result.result)
        if not (result.task.loop and "results" in result.result):  # or each item has said it
            self._failed(result, result.task_name)
        if ignore_errors:
            self._show(result, ["(ignored)"], C.COLOR_SKIP)

    @or_default
    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)
        self._failed(result, f"{result.task_name} (item={self._get_item_label(result.result)})")

    def _failed(self, result: CallbackTaskResult, name: str) -> None:
        """The error. Where a task fails to tell another's error again, only what it adds: the state, the next step."""
        found = error_lines(result.result, root_cause(result.exception))
        new = [line for line in found if self._is_new(result.host.get_name(), line)]
        retold = result.task.action in FAIL and len(new) < len(found)
        if not retold:
            where = "" if module_of(result.task) else f"  ({result.task.get_path()})"
            spent = f" after {seconds_of(result.result['phase']):.1f} s" if "phase" in result.result else ""
            new = [f"FAILED{spent}  {name}{where}", *found]
        self._show(result, new, C.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))

    @or_default
    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)
        first, *more = error_lines(result.result)
        lines = [f"UNREACHABLE  {first}", *more]
        self._show(result, lines, C.COLOR_UNREACHABLE, stderr=self.get_option("display_failed_stderr"))
        if result.task.ignore_unreachable:
            self._show(result, ["(ignored)"], C.COLOR_SKIP)

    @or_default
    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)

    @or_default
    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        self._handle_warnings(result.result)

    @or_default
    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        if (waiting := (result.host.get_name(), result.task._uuid)) not in self._waiting:
            self._waiting.add(waiting)
            self._show(result, [f"… waiting: {result.task_name}"])

    @or_default
    def v2_runner_on_async_poll(self, result: CallbackTaskResult) -> None:
        pass

    @or_default
    def v2_runner_on_async_ok(self, result: CallbackTaskResult) -> None:
        pass

    @or_default
    def v2_runner_on_async_failed(self, result: CallbackTaskResult) -> None:
        pass
