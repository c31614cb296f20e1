# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat recover`: on the host alone what a playbook recover_* does, by the same phases, with the same evidence."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Union

from ..base import typed
from ..base.checks import CODES, PASS
from ..base.errors import LifeboatError, Log, UsageError
from ..operations import escrow_kit
from ..phases.recoveries import RECOVERIES
from ..phases.recovery import Recovery, Request, Runner, State, mapping, texts
from ..settings import config as settings
from ..settings.config import Config
from ..settings.scenarios import SCENARIOS

if TYPE_CHECKING:
    from .report import Answer

Value = Union[str, bool, Sequence[str]]
_ATTEMPTED = "recover"
# What a recovery takes besides the options of its first phase; the playbook has each under the same name.
_ALL = ("confirm", "identity_file", "reason", "seal")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")
_HELP = {
    "recovery_point": (
        "ID",
        "the state to bring back, a recovery point or a backup (default: the newest good one; also --to)",
    ),
    "recovery_time": ("TIME", "the last moment at which the data was right, such as 2026-11-24T11:00:00+09:00"),
    "before": (
        "WHAT",
        "database, with continuous protection: the instant before a table's last loss (app.items), a transaction"
        " (918233), a position (0/A41607C8) or a mark (mark:before-upgrade)",
    ),
    "timeline": ("N", "database: the timeline that is meant, where two lived at the instant"),
    "accept": ("", "failed: use the backup that is named although its verification failed"),
    "force": ("", "recover although nothing is wrong, or the state that was asked for is there"),
    "method": ("", "how (default: auto, which chooses)"),
    "database": ("NAME", "database: the only one to replace in a server that answers"),
    "prefix": ("PREFIX", "objects: only those whose key begins so"),
    "partial": ("", "objects: recover all others where some are in no place any more"),
    "bucket": ("NAME", "objects: only this bucket, in a server that runs"),
    "settings": ("", "objects: put back the bucket's policy, lifecycle and CORS, too"),
    "sample": ("N", "objects: read so many back to compare them (default: all that were copied)"),
    "preflight_vault": ("", "objects: false: begin although nothing can be recovered from the vault"),
    "paths": ("PATH", "files: only what lies at or below this path; may be given several times"),
    "exact": ("", "objects, files: move aside what the backup does not know"),
    "sources": ("NAME", "dumps: only this one of the servers; may be given several times"),
    "others": ("", "what becomes of what the server has and no backup holds: aside, or copied into the fresh server"),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", choices=list(RECOVERIES), help="what is to be recovered")
    parser.add_argument(
        "--plan", action="store_true", help="print the plan and change nothing, whatever is confirmed (also --check)"
    )
    parser.add_argument("--check", action="store_true", dest="plan", help=argparse.SUPPRESS)
    parser.add_argument("--to", default="", dest="recovery_point", help=argparse.SUPPRESS)
    parser.add_argument(
        "--confirm", default="", metavar="HOST", help="the name of this host: carry out the plan that you read"
    )
    for name, kind in _kinds().items():
        metavar, text = _HELP[name]
        flag = f"--{name.replace('_', '-')}"
        choices = [choice for choice in _choices(name) if choice]
        if kind == "bool":
            parser.add_argument(flag, action="store_true", dest=name, help=text)
        elif kind == "list":
            parser.add_argument(flag, action="append", default=[], dest=name, metavar=metavar, help=text)
        else:
            more = {"choices": choices} if choices else {"metavar": metavar}
            parser.add_argument(flag, default="", dest=name, help=text, **more)
    parser.add_argument(
        "--identity", default="", dest="identity_file", metavar="FILE",
        help="the age identity that opens encrypted backups; - reads it from stdin",
    )  # fmt: skip
    parser.add_argument("--seal", default="", help="the seal that the recovery point must have")
    parser.add_argument("--reason", default="", metavar="WORDS", help="what happened; it is written into the evidence")
    parser.add_argument(
        "--operator", default="", metavar="NAME", help="who recovers, for the evidence (default: the user that you are)"
    )
    parser.add_argument(
        "-e", action="append", default=[], dest="more", metavar="NAME=VALUE",
        help="an option as a plan or an error prints it for the playbook, such as -e recovery_point=20261124_033000",
    )  # fmt: skip


def run(loaded: Config, arguments: argparse.Namespace, log: Log) -> Answer:
    """Show the plan, or carry it out where this host is confirmed."""
    recovery, host = RECOVERIES[arguments.scenario], socket.gethostname()
    attempted = f"{_ATTEMPTED} the {arguments.scenario}"
    given = _request(arguments, attempted)
    confirm = str(given.pop("confirm", ""))
    again = command(loaded, arguments.scenario, {**given, "operator": arguments.operator}, host)
    if confirm and confirm != host:
        cause = f"{confirm} is confirmed, and this host is {host}; nothing was changed"
        raise UsageError(attempted, loaded.stack, cause, f"Name the host that you mean to change: {again}")
    key = str(given.pop("identity_file", ""))
    seal = str(given.pop("seal", ""))
    request = Request(
        host=host,
        options=given,
        identity=escrow_kit.identity(key) if key else "",
        confirmed=bool(confirm) and not arguments.plan,
        reason=str(given.pop("reason", "")),
        operator=arguments.operator or operator(),
    )
    state, runner = State(request), Runner(settings.pinned(loaded, seal), log)
    recovery.ready(runner.config, state)
    if not runner.run(recovery.assess, state):
        raise _raised(state, attempted, loaded.stack)
    planned = state.result("plan")
    shown = _here(texts(planned.get("text")), host)
    result = {
        "scenario": recovery.scenario, "host": host, "needed": planned["needed"], "changed": False, "text": shown,
        "plan": state.plan,
    }  # fmt: skip
    if not planned["needed"] or arguments.plan:
        return 0, result, shown
    if state.blocked and not request.confirmed:
        lines = _here([*shown, state.blocked], host)
        return LifeboatError.exit_code, {**result, "error": {"cause": lines[-1]}}, lines
    if not request.confirmed:
        remedy = f"To carry this plan out on {host}, run: {again}"
        error = UsageError(attempted, loaded.stack, f"the host {host} is not confirmed; nothing was changed", remedy)
        return error.exit_code, {**result, "error": _parts(error)}, [*shown, f"Nothing was changed. {remedy}"]
    for text in shown:
        log(text)
    try:
        runner.recover(recovery, state)
    except KeyboardInterrupt:
        log(f"next: {recovery.remedy(state)}")
        raise
    code, ended, lines = _ended(recovery, state, host)
    bug = state.failure and state.failure.__cause__
    if bug and not isinstance(bug, LifeboatError):
        for text in lines:
            log(text)
        raise bug
    return code, {**result, **mapping(ended)}, lines


def operator() -> str:
    """Return who types this."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or os.environ.get("LOGNAME") or ""


def command(loaded: Config, scenario: str, options: Mapping[str, Value], host: str) -> str:
    """Return the same command with this host confirmed, to be pasted."""
    argv = ["sudo", "lifeboat", "recover", scenario, "--stack", loaded.stack]
    for name, value in options.items():
        flag = "--identity" if name == "identity_file" else f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            argv += [flag] if value else []
        else:
            for text in [value] if isinstance(value, str) else value:
                argv += [flag, text] if text else []
    return shlex.join([*argv, "--confirm", host])


def _ended(recovery: Recovery, state: State, host: str) -> Answer:
    """Say what became of it: the evidence, and where it is not proved the state and the next command."""
    evidence = state.result("evidence")
    verdict, path = str(evidence.get("verdict", "")), str(evidence.get("path", ""))
    shown = [*texts(evidence.get("text")), *([f"evidence: {path}"] if path else [])]
    result = {
        "changed": bool(state.results.keys() & {phase.key for phase in recovery.phases}),
        "verdict": verdict,
        "evidence": path,
        "record": evidence.get("record"),
    }
    if not state.error and verdict == PASS:
        return 0, result, shown
    error = state.error or f"The verdict is {verdict}, see the checks above and {path} on {host}."
    error, remedy = _here([error, recovery.remedy(state)], host)
    ends = {"state": recovery.state(state), "next": remedy}
    kept = [*recovery.way_back(state)]
    shown += [f"state: {ends['state']}", *kept, f"next: {ends['next']}", error]
    code, cause = CODES.get(verdict, LifeboatError.exit_code), state.failure and state.failure.__cause__
    if state.failure:
        code = cause.exit_code if isinstance(cause, LifeboatError) else LifeboatError.exit_code
    parts = _parts(cause) if isinstance(cause, LifeboatError) else {"cause": error}
    return code, {**result, **ends, "kept": kept, "error": parts}, shown


def _here(lines: Sequence[str], host: str) -> list[str]:
    """Return the lines with this command in place of a playbook's: there may be no controller."""
    found = list(lines)
    for word, recovery in RECOVERIES.items():
        playbook = f"ansible-playbook lifeboat.dr.{SCENARIOS[recovery.scenario].playbook} -e confirm={host}"
        found = [line.replace(playbook, f"sudo lifeboat recover {word} --confirm {host}") for line in found]
    return found


def _raised(state: State, attempted: str, stack: str) -> Exception:
    """Return the error of a plan that could not be made."""
    failure = state.failure
    return failure.__cause__ if failure and isinstance(failure.__cause__, Exception) else LifeboatError(
        attempted, stack, state.error
    )  # fmt: skip


def _parts(error: LifeboatError) -> dict[str, str]:
    return {name: str(getattr(error, name)) for name in ("attempted", "subject", "cause", "remedy")}


def _request(arguments: argparse.Namespace, attempted: str) -> dict[str, Value]:
    """Return the options that were given, by the playbook's names."""
    kinds = _kinds()
    typed_in = {name: getattr(arguments, name) for name in (*_ALL, *kinds)}
    given: dict[str, Value] = {name: value for name, value in typed_in.items() if value not in ("", False, [])}
    taken = RECOVERIES[arguments.scenario].taken
    for name, value in _more(arguments.more, attempted):
        if name not in kinds and name not in _ALL:
            remedy = f"It knows {', '.join(sorted((*_ALL, *kinds)))}."
            raise UsageError(attempted, f"-e {name}", "there is no such option", remedy)
        given[name] = _typed(kinds.get(name, "str"), name, value, attempted)
    for name, chosen in given.items():
        if name in kinds and name not in taken:
            knows = [word for word, one in RECOVERIES.items() if name in one.taken]
            cause = f"{name} is an option of {', '.join(knows)}"
            raise UsageError(attempted, f"--{name.replace('_', '-')}", cause, "Leave it away.")
        if kinds.get(name) == "int" and not (str(chosen).isascii() and str(chosen).isdecimal()):
            raise UsageError(attempted, f"{name}={chosen}", "it is no number", "Give a number.")
        allowed = taken.get(name, {}).get("choices")
        if isinstance(allowed, (list, tuple)) and chosen not in allowed:
            known = ", ".join(str(choice) for choice in allowed if choice)
            raise UsageError(attempted, f"{name}={chosen}", f"it must be one of {known}", "Choose one of these.")
    return given


def _more(extra: Sequence[str], attempted: str) -> Iterator[tuple[str, object]]:
    """Yield what -e gives, as ansible-playbook reads it: NAME=VALUE, several in one, or a mapping in JSON."""
    for text in extra:
        if text.lstrip().startswith("{"):
            yield from typed.load(text, functools.partial(_wrong, attempted, text)).items()
            continue
        try:
            pairs = [word.partition("=") for word in shlex.split(text)]
        except ValueError as exc:
            raise UsageError(attempted, f"-e {text}", str(exc), "Close the quotation.") from exc
        for name, equals, value in pairs:
            if not equals:
                raise UsageError(attempted, f"-e {text}", "it is not NAME=VALUE", "Write -e NAME=VALUE.")
            yield name, value


def _wrong(attempted: str, text: str, field: str, cause: str) -> LifeboatError:
    return UsageError(attempted, f"-e {text}", f"{field}: {cause}" if field else cause, "Mend the JSON.")


def _typed(kind: str, name: str, value: object, attempted: str) -> Value:
    wrong = UsageError(attempted, f"-e {name}", f"{value!r} is no {kind}", f"Give a {kind}.")
    if kind == "bool":
        if isinstance(value, bool) or str(value).lower() in (*_TRUE, *_FALSE):
            return value if isinstance(value, bool) else str(value).lower() in _TRUE
        raise wrong
    if kind == "list":
        listed = value if isinstance(value, list) else [value]
        if all(isinstance(item, str) for item in listed):
            return [str(item) for item in listed]
        raise wrong
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise wrong


def _kinds() -> dict[str, str]:
    """Return the options of all recoveries, each with its type."""
    every = [*RECOVERIES.values()]
    return {name: str(option["type"]) for recovery in every for name, option in recovery.taken.items()}


def _choices(name: str) -> list[str]:
    """Return the words that an option may have in any of the recoveries."""
    found: list[str] = []
    for recovery in RECOVERIES.values():
        allowed = recovery.taken.get(name, {}).get("choices")
        found += [str(choice) for choice in allowed] if isinstance(allowed, (list, tuple)) else []
    return list(dict.fromkeys(found))
