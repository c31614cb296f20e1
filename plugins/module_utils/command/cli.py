# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The `lifeboat` command on a protected host: what cron runs and what an operator types."""

from __future__ import annotations

import argparse
import functools
import io
import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from ..base import ecs, lock, pipeline, progress, terminal
from ..base import text as base_text
from ..base.checks import CODES
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, Log, UnverifiedError, UsageError, printable_lines
from ..base.filesystem import explained
from ..base.version import VERSION
from ..operations import schedule
from ..repository.components import KINDS, taken
from ..settings import config
from ..stack import hook_debts
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from ..operations.proof import Result
    from .report import Answer

EXIT_CODES = """exit codes:
  0  done; what was asked is true
  1  it failed: the message says what was attempted, on what, why, and what to do next
  2  wrong usage or configuration
  3  could not verify: nothing is known, so nothing is claimed
  4  another run holds the stack's lock
  5  a backup, database or service that was named is not there
  6  data is there and is not what it should be (also: FAIL of a verification, status or list; a backup lacks something)
  7  no space, or a read-only file system
  8  the backup is good, and its copy or retention in the vault failed; the next backup makes up for it
"""
LOG_DIRECTORY = Path("/var/log/lifeboat")
_INTERRUPTED = 130


class Verb(NamedTuple):
    """One command. What it needs is imported by its functions: all of it takes longer than most commands."""

    help: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[config.Config, argparse.Namespace, Log], Answer]


def parser(verb: str = "") -> argparse.ArgumentParser:
    """Of the whole command; with the name of a verb, the others have their name and help only."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack", default="", help="the stack, where this host has several")
    common.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    common.add_argument("--config-directory", type=Path, default=None, help=argparse.SUPPRESS)
    top = argparse.ArgumentParser(
        prog="lifeboat", description="Back up, prove and list what recovers this host's stacks.", epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"lifeboat {VERSION}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, of in _VERBS.items():
        made = verbs.add_parser(
            name, help=of.help, description=of.help, parents=[common], epilog=EXIT_CODES,
            formatter_class=top.formatter_class,
        )  # fmt: skip
        if verb in (name, ""):
            of.options(made)
    text = "Print this command's completion for bash or zsh."
    completing = verbs.add_parser("completion", help=text, description=text)
    if verb in ("completion", ""):
        from . import completion

        completion.options(completing)
    return top


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns its exit code. No traceback for anything the core foresees.

    What it does not foresee is in the log too, by which the checklist judges the scheduled runs.
    """
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(words[0] if words and words[0] in (*_VERBS, "completion") else "").parse_args(words)
    if arguments.verb == "completion":
        from . import completion

        return completion.run(parser(), arguments)
    if arguments.verb == "explain":
        return _explained(arguments)
    log = logging.getLogger("lifeboat")
    stack = arguments.stack
    secrets: dict[str, str] = {}
    scrubbed = _scrubbed(secrets)
    log.addFilter(scrubbed)
    try:
        loaded = _configured(arguments)
        stack = loaded.stack
        secrets.update(loaded.secrets)
        _open_log(log, stack, arguments, loaded.monitoring.log_format)
        hook_debts.catch_up(loaded, log.info)
        if arguments.verb in schedule.WORK:
            log.debug(schedule.BEGINS, arguments.verb)
        with progress.told(lambda text: log.info("%s", text, extra={terminal.PROGRESS: True})):
            code, result, told = _run(loaded, arguments, log)
        shown = [pipeline.scrub(line, secrets) for line in told]
        _log_end(log, arguments.verb, code, shown)
    except LifeboatError as exc:
        _open_log(log, stack or "lifeboat", arguments)
        log.error("%s failed: %s", arguments.verb, exc, extra=_ended(exc.exit_code))
        return _failed(arguments, stack, exc, secrets)
    except KeyboardInterrupt:
        log.error("%s interrupted", arguments.verb, extra=_ended(_INTERRUPTED))
        return _INTERRUPTED
    except Exception as exc:
        _open_log(log, stack or "lifeboat", arguments)
        said = " ".join(str(exc).split())
        words = "%s failed: %s, which Lifeboat does not foresee: %s"
        log.error(words, arguments.verb, type(exc).__name__, said, extra=_ended(LifeboatError.exit_code))
        raise
    finally:
        terminal.rest(log)
        log.removeFilter(scrubbed)
    if arguments.json:
        from ..evidence import phases

        result = phases.cleaned(result, secrets)
    return _answer(arguments, code, result, shown)


def _explained(arguments: argparse.Namespace) -> int:
    """Print a runbook. It opens no log and reads no configuration that it needs: they may be what is broken."""
    from . import explain

    try:
        return _answer(arguments, *explain.run(arguments))
    except LifeboatError as exc:
        sys.stderr.write(f"lifeboat: explain failed: {printable_lines(str(exc))}\n")
        return _failed(arguments, arguments.stack, exc, {})


def _failed(arguments: argparse.Namespace, stack: str, exc: LifeboatError, secrets: Mapping[str, str]) -> int:
    """Say it on standard output too, where a program reads that; returns the exit code."""
    if arguments.json:
        names = ("attempted", "subject", "cause", "remedy")
        parts = {name: pipeline.scrub(getattr(exc, name), secrets) for name in names}
        sys.stdout.write(json.dumps({"error": parts}) + "\n")
    elif getattr(arguments, "nagios", False):  # a code of ours would mean something else there
        from ..faces import nagios

        code, line = nagios.unknown(stack, pipeline.scrub(str(exc), secrets))
        sys.stdout.write(line + "\n")
        return code
    return exc.exit_code


def _scrubbed(secrets: Mapping[str, str]) -> Callable[[logging.LogRecord], bool]:
    """Return a filter: no line of a log holds one of these secrets, or what looks like one."""

    def scrub(record: logging.LogRecord) -> bool:
        said = pipeline.scrub(record.getMessage(), secrets)
        # A tool's half of a pair has no UTF-8: a handler would print a traceback in place of the line.
        record.msg, record.args = said.encode("utf-8", "backslashreplace").decode(), ()
        return True

    return scrub


def _configured(arguments: argparse.Namespace) -> config.Config:
    if arguments.verb == "escrow":
        from ..operations import escrow_kit

        if escrow_kit.names_vault(arguments):
            return escrow_kit.configured(arguments)
    usual = config.KEEPER_DIRECTORY if arguments.verb == "keeper" else config.DIRECTORY
    return config.load(arguments.stack, arguments.config_directory or usual)


def _run(loaded: config.Config, arguments: argparse.Namespace, log: logging.Logger) -> Answer:
    work = functools.partial(_VERBS[arguments.verb].run, loaded, arguments, log.info)
    pulls = arguments.verb == "keeper" and arguments.action == "pull"  # a keeper's timer does
    looks = (not pulls and arguments.verb not in schedule.WORK) or getattr(arguments, "dry_run", False)
    if looks or not loaded.monitored:
        return work()
    from ..operations import runs
    from . import watched

    name = runs.name(arguments.verb, "pull" if pulls else getattr(arguments, "component", None) or "")
    return watched.reported(Opened(loaded), name, work, log.warning)


def _log_end(log: logging.Logger, verb: str, code: int, shown: Sequence[str]) -> None:
    if code:
        # Cron throws standard output away and mails standard error: a bad verdict must not be silent.
        log.error("%s: %s", verb, shown[-1] if shown else f"exit {code}", extra=_ended(code))
    elif verb in schedule.WORK:
        log.debug(schedule.ENDS, verb, extra=_ended(code))


def _ended(code: int) -> dict[str, int]:
    """Return what the last line of a run tells besides its words, where the log is JSON."""
    return {"exit_code": code}


def _answer(arguments: argparse.Namespace, code: int, result: object, shown: list[str]) -> int:
    if getattr(arguments, "format", "text") == "text":
        shown = list(map(printable_lines, shown))
        if terminal.wants_more(sys.stdout):
            shown = terminal.painted(shown)
    try:
        said = base_text.printable_json(result) if arguments.json else "\n".join(shown)
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `lifeboat list | head` is no error, nor may the flush at the end make it one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _open_log(log: logging.Logger, stack: str, arguments: argparse.Namespace, style: str = "text") -> None:
    """To the journal, to a file that logrotate turns, and to the terminal's stderr; each where it can be had.

    style: of the file. Without a configuration that can be read nobody has asked for JSON.
    """
    if log.handlers:
        return
    log.setLevel(logging.DEBUG)  # that a run begins and ends is for the log and the journal; a terminal shows INFO
    whole = getattr(arguments, "json", False) and sys.stdout.isatty()  # progress would stand in the middle of the JSON
    log.addHandler(terminal.handler(sys.stderr, errors_only=whole))
    form = f"%(asctime)s {stack}[%(process)d] %(levelname)s %(message)s"
    plain = terminal.Plain(form, "%Y-%m-%dT%H:%M:%S%z", one_line=True)
    try:
        path = LOG_DIRECTORY / f"{stack}.log"
        if LOG_DIRECTORY.is_dir():
            if os.path.lexists(path) and not path.is_file():  # a pipe that nobody reads would keep us for ever
                raise OSError(f"{path} is not a plain file")
            file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
            file.setFormatter(ecs.Formatter(stack, arguments.verb) if style == "json" else plain)
            log.addHandler(file)
        if Path("/dev/log").exists():
            journal = logging.handlers.SysLogHandler("/dev/log")
            journal.setFormatter(terminal.Plain(f"lifeboat[%(process)d]: {stack}: %(message)s", one_line=True))
            log.addHandler(journal)
    except OSError as exc:
        log.warning("logging to the terminal only: %s", exc)


def _backup(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    purpose = f"backup {arguments.component or 'recovery point'}"
    with lock.held(loaded.stack, purpose, wait=arguments.wait):
        opened = Opened(loaded)
        opened.read_ahead()  # while the rest is imported
        from ..operations import backup as operations_backup

        taken = operations_backup.take(
            opened, arguments.component or "", seal=arguments.seal, prune_after=arguments.prune,
            override=arguments.override, log=log,
        )  # fmt: skip
    code, shown = (IntegrityError.exit_code if taken.unheld or taken.missing else 0), taken.lines()
    said: Optional[LifeboatError] = taken.refused
    if taken.pruned:
        from ..operations import prune as operations_prune

        said = operations_prune.alarm(loaded.stack, taken.pruned) or operations_prune.unread(loaded.stack, taken.pruned)
    if said:
        code, shown = code or said.exit_code, [*shown, str(said)]
    return _with_vault(loaded, taken.failed, code, taken.as_dict(), shown)


def _with_vault(loaded: config.Config, failed: Sequence[str], code: int, result: object, shown: list[str]) -> Answer:
    """Return the answer with what failed in the vault, which has the last word. What was done here is shown."""
    from ..repository import copies

    problem = copies.problem(loaded.stack, failed)
    return (code or problem.exit_code, result, [*shown, str(problem)]) if problem else (code, result, shown)


def _verify(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import escrow_kit
    from ..operations import verify as operations_verify

    key = escrow_kit.identity(arguments.identity) if arguments.identity else ""
    opened = Opened(loaded, key)
    return _verification(
        operations_verify.verify(
            opened, arguments.id, arguments.level, sample=arguments.sample, log=log, wait=arguments.wait
        )
    )


def _verification(result: Result) -> Answer:
    shown = [*base_text.checks(result.checks), *(f"{gap.what}: {gap.why}" for gap in result.gaps)]
    return CODES[result.verdict], result.as_dict(), [*shown, f"{result.verdict}  {result.id}  {result.level}"]


def _prune(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import prune as operations_prune

    with lock.held(loaded.stack, "prune", wait=arguments.wait):
        result = operations_prune.prune(
            Opened(loaded), now=datetime.now(timezone.utc), dry_run=arguments.dry_run, log=log,
            trust_clock=arguments.trust_clock,
        )  # fmt: skip
    word = "would delete" if arguments.dry_run else "deleted"
    shown = [f"keep    {identity}  {', '.join(reasons)}" for identity, reasons in result["keep"].items()]
    shown += [f"{word}  {identity}" for identity in [*result["delete"], *result["swept"]]]
    shown += operations_prune.report(result, word)
    shown.append(f"{len(result['keep'])} kept, {len(result['delete'])} {word}")
    said = operations_prune.alarm(loaded.stack, result) or operations_prune.unread(loaded.stack, result)
    if said:
        return _with_vault(loaded, result["failed"], said.exit_code, result, [*shown, str(said)])
    return _with_vault(loaded, result["failed"], 0, result, shown)


def _list(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import clocks
    from ..repository import points, repositories
    from ..repository import show as repository_show

    run = Opened(loaded)
    repo = repositories.repository_of(run)
    repo.check(writable=False)
    found = points.backups(repo, loaded.stack)
    tied = points.entries(repo, loaded.stack, found)
    now = datetime.now(timezone.utc)
    gone, gone_points = clocks.hidden_entries(run, found, tied, now)
    found = {name: [*gone.get(name, ()), *entries] for name, entries in found.items()}
    found.update(points.continuous(repo, loaded.stack))
    tied = [*gone_points, *tied]
    if arguments.component:
        found = {name: entries for name, entries in found.items() if name == arguments.component}
        tied = tied if arguments.component == "point" else []
    return 0, points.listing(tied, found, now), repository_show.table(tied, found, now)


def _adopt(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import adoption

    found = adoption.untrusted(Opened(loaded), arguments.id)
    for identity, why in found.left.items():
        log(f"{identity} cannot be adopted: {why}")
    text = found.text()
    return 0, json.loads(text), text.splitlines()


def _adopt_options(parser: argparse.ArgumentParser) -> None:
    from ..operations import adoption

    adoption.options(parser)


def _escrow(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import escrow, escrow_kit, escrow_look

    if arguments.look:
        now = datetime.now(timezone.utc)
        run = Opened(loaded)
        return _verification(escrow_look.compare(run, path=arguments.seen, accept=arguments.accept, now=now, log=log))
    if arguments.print_kit:
        kit = escrow_kit.kit(loaded)
        return 0, kit, base_text.printable_json(kit, indent=1).split("\n")
    key = escrow_kit.identity(arguments.identity)
    run = Opened(escrow_kit.signing(loaded, arguments.signing_key))
    return _verification(escrow.prove(run, key, point=arguments.point, record=not arguments.no_record, log=log))


def _status(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..faces import nagios
    from ..operations import quarantine, runs, status

    stack, now = Opened(loaded), datetime.now(timezone.utc)
    seen = status.status(stack, now=now)
    if arguments.nagios:
        code, line = nagios.status(loaded.stack, seen.checks)
        return code, seen.as_dict(), [line]
    kept = quarantine.survey(stack, now=now)
    going = runs.going(loaded)
    told = [f"running   {run}, {base_text.human(one.done)} since {format_time(one.at)}" for run, one in going.items()]
    shown = [*status.newest(seen), *told, "", *kept.lines(), "", *base_text.checks(seen.checks)]
    running = [{"run": run, "began_at": format_time(one.at), "bytes": one.done} for run, one in going.items()]
    result = {**seen.as_dict(), "quarantine": kept.as_dict(), "running": running}
    return CODES[seen.verdict], result, [*shown, f"{seen.verdict}  {loaded.stack}"]


def _quarantine(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..operations import quarantine

    run, now = Opened(loaded), datetime.now(timezone.utc)
    if arguments.action == "list":
        kept = quarantine.survey(run, now=now)
        return (UnverifiedError.exit_code if kept.unseen else 0), kept.as_dict(), kept.lines()
    if not arguments.kind or not arguments.name:
        cause, remedy = "its kind and name are not given", "`lifeboat quarantine` lists both, with the command."
        raise UsageError(quarantine.REMOVE, loaded.stack, cause, remedy)
    with lock.held(loaded.stack, quarantine.REMOVE):
        gone = quarantine.remove(run, arguments.kind, arguments.name, sure=arguments.yes, now=now, log=log)
    return 0, {"removed": {"kind": gone.kind, "name": gone.name}}, [f"removed  {gone.kind} {gone.name}"]


def _checklist(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from ..evidence import phases
    from ..operations import checklist, checklist_line

    ahead = checklist.ahead_of(arguments.ahead_days)
    made = checklist.work_through(Opened(loaded), arguments.period, now=datetime.now(timezone.utc), ahead=ahead)
    made = phases.cleaned(made, loaded.secrets)
    for path, content in ((arguments.markdown, checklist_line.markdown), (arguments.html, checklist_line.page)):
        if path is not None:
            with explained("write the checklist", path):
                path.write_text(content(made), encoding="utf-8", errors="backslashreplace")
    return CODES[made.verdict], made.as_dict(), checklist_line.text(made)


def _number(text: str) -> int:
    """Return how many: argparse names the option where it is none."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of objects")
    return int(text)


def _backup_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "component", nargs="?", choices=taken(), help="what to back up (default: all but a base, sealed as one point)"
    )
    parser.add_argument("--seal", action="store_true", help="tie the newest backups into a recovery point afterwards")
    parser.add_argument(
        "--override", type=_number, nargs="?", const=1, default=0, metavar="N",
        help="what is there is right: mirror the bucket where up to N objects would be removed or overwritten,"
        " call no database shrunk",
    )  # fmt: skip
    parser.add_argument("--prune", action="store_true", help="apply retention afterwards, only if the backup is good")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait for the lock this long")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    named = "of a recovery point or a backup (default: the newest of each component)"
    parser.add_argument("id", nargs="?", default="latest", help=named)
    parser.add_argument(
        "--level", choices=list(config.LEVELS), default="restore", help="how far to go (default: restore)"
    )
    parser.add_argument(
        "--sample", type=int, metavar="N",
        help="restore so many objects, chosen at random; 0: all of them (default: those whose turn it is, so that each"
        " is read once in vault.read_days)",
    )  # fmt: skip
    parser.add_argument(
        "--identity", default="", metavar="FILE",
        help="the age identity that opens encrypted backups, where this host's own key does not; - reads it from stdin",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="wait for a prune or a verification this long"
    )


def _prune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the plan, delete nothing")
    parser.add_argument(
        "--trust-clock", action="store_true", help="prune although this host's clock seems to have jumped: it is right"
    )
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait for the lock this long")


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--component", default="", choices=["point", *KINDS], help="only these")


def _escrow_options(parser: argparse.ArgumentParser) -> None:
    from ..operations import escrow_kit

    escrow_kit.options(parser)


def _checklist_options(parser: argparse.ArgumentParser) -> None:
    from ..operations.checklist import PERIODS

    parser.add_argument("--period", choices=PERIODS, default="daily", help="which list (default: daily)")
    parser.add_argument(
        "--ahead-days", type=float, default=0, metavar="DAYS",
        help="look at it as after so many days without a backup too; a line is never better for it",
    )  # fmt: skip
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write it there as well, as Markdown")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it there as well, as one page of HTML")


def _quarantine_options(parser: argparse.ArgumentParser) -> None:
    from ..operations.quarantine import KINDS as MOVED

    parser.add_argument("action", nargs="?", choices=["list", "remove"], default="list", help="default: list")
    parser.add_argument("kind", nargs="?", choices=list(MOVED), help="remove: what kind of thing")
    parser.add_argument("name", nargs="?", default="", help="remove: its name, as the list has it")
    parser.add_argument("--yes", action="store_true", help="remove: it is sure; without it nothing is removed")


def _report(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import report

    return report.report(loaded, arguments, log)


def _report_options(parser: argparse.ArgumentParser) -> None:
    from . import report

    report.add_report(parser)


def _review(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import report

    return report.review(loaded, arguments, log)


def _review_options(parser: argparse.ArgumentParser) -> None:
    from . import report

    report.add_review(parser)


def _keeper(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import keeper

    return keeper.run(Opened(loaded), arguments, log)


def _keeper_options(parser: argparse.ArgumentParser) -> None:
    from . import keeper

    keeper.options(parser)


def _ship(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import shipped

    return shipped.run(loaded, arguments, log)


def _ship_options(parser: argparse.ArgumentParser) -> None:
    from . import shipped

    shipped.options(parser)


def _explain(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import explain

    del loaded, log
    return explain.run(arguments)


def _explain_options(parser: argparse.ArgumentParser) -> None:
    from . import explain

    explain.options(parser)


def _recover(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import recover

    return recover.run(loaded, arguments, log)


def _recover_options(parser: argparse.ArgumentParser) -> None:
    from . import recover

    recover.options(parser)


def _metrics(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import watched

    del log
    return watched.show(Opened(loaded), arguments)


def _metrics_options(parser: argparse.ArgumentParser) -> None:
    from . import watched

    watched.options(parser)


def _notify(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import notified

    return notified.run(Opened(loaded), arguments, log)


def _notify_options(parser: argparse.ArgumentParser) -> None:
    from . import notified

    notified.options(parser)


def _transaction(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import transaction

    return transaction.run(loaded, arguments, log)


def _transaction_options(parser: argparse.ArgumentParser) -> None:
    from . import transaction

    transaction.options(parser)


def _wal(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import wal

    return wal.run(Opened(loaded), arguments, log)


def _wal_options(parser: argparse.ArgumentParser) -> None:
    from . import wal

    wal.options(parser)


def _changes(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import changes

    return changes.run(Opened(loaded), arguments, log)


def _changes_options(parser: argparse.ArgumentParser) -> None:
    from . import changes

    changes.options(parser)


def _mark(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import wal

    return wal.mark(Opened(loaded), arguments, log)


def _when(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    from . import wal

    return wal.when(Opened(loaded), arguments, log)


def _when_options(parser: argparse.ArgumentParser) -> None:
    from . import wal

    wal.when_options(parser)


def _mark_options(parser: argparse.ArgumentParser) -> None:
    from . import wal

    wal.mark_options(parser)


def _status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nagios", action="store_true",
        help="one line and an exit status for Nagios and Icinga: 0 OK, 2 CRITICAL, 3 UNKNOWN (could not be verified)",
    )  # fmt: skip


def _no_options(parser: argparse.ArgumentParser) -> None:
    del parser


_VERBS = {
    "backup": Verb("Take a recovery point now, or a backup of one component.", _backup_options, _backup),
    "verify": Verb("Prove a recovery point or a backup.", _verify_options, _verify),
    "prune": Verb("Apply retention: delete backups that no rule keeps.", _prune_options, _prune),
    "list": Verb("List the recovery points and the backups, newest last.", _list_options, _list),
    "adopt": Verb("Print the list of what is untrusted, for an operator to sign.", _adopt_options, _adopt),
    "escrow": Verb(
        "Prove that the escrowed key and the vault's credentials open a recovery point.", _escrow_options, _escrow
    ),
    "checklist": Verb(
        "Work through the daily, weekly, monthly, quarterly or incident list.", _checklist_options, _checklist
    ),
    "report": Verb("List the records of recoveries, drills and verifications; show one.", _report_options, _report),
    "review": Verb("Add a finding, or your sign-off, to a record.", _review_options, _review),
    "transaction": Verb(
        "Do what a user does, as lifeboat_drill says, and read it back.", _transaction_options, _transaction
    ),
    "recover": Verb(
        "Recover what is damaged, on this host alone: print the plan, and carry it out where the host is confirmed.",
        _recover_options,
        _recover,
    ),
    "quarantine": Verb(
        "List what recoveries moved aside and is still there, or remove one thing of it.",
        _quarantine_options,
        _quarantine,
    ),
    "keeper": Verb("On a keeper's host: pull a stack's backups, and keep them.", _keeper_options, _keeper),
    "metrics": Verb(
        "Write what a monitoring system wants to know, for node_exporter's textfile collector.",
        _metrics_options,
        _metrics,
    ),
    "explain": Verb("Print the runbook of an alert, or list the alerts.", _explain_options, _explain),
    "notify": Verb(
        "Tell the receivers of lifeboat_notify what is new: what failed, what is well again.", _notify_options, _notify
    ),
    "ship": Verb(
        "For rsyslog: send log lines to Elasticsearch or OpenSearch, and confirm what it has stored.",
        _ship_options,
        _ship,
    ),
    "wal": Verb("Protect the database continuously by its write-ahead log (WAL).", _wal_options, _wal),
    "changes": Verb("Write down what changes in the object store between two backups.", _changes_options, _changes),
    "mark": Verb("Name this instant in the WAL, to go back to it.", _mark_options, _mark),
    "when": Verb("Find what was dropped, truncated or deleted, and the instant before it.", _when_options, _when),
    "status": Verb("Say whether the stack is protected; fails when it is not.", _status_options, _status),
}
