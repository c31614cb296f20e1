# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat report` and `lifeboat review`: the records of this host for those who sit at it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from ..base import filesystem
from ..base.errors import IntegrityError, Log, present
from ..base.filesystem import explained
from ..evidence import record, store
from ..evidence.store import StoredRecord
from ..reports import site as reports_site
from ..reports import words
from ..reports.history import OK, Stack, answer, judge
from ..settings.config import Config
from ..tools import signature

FORMATS = ("text", "html", "markdown", "junit", "metrics", "json")
Answer = tuple[int, object, list[str]]


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", default="", help="the record's id (default: list all records, and what is overdue)"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="how to print that record (default: text)")
    parser.add_argument(
        "--output", type=Path, metavar="DIRECTORY", help="write the history page and all records into this directory"
    )
    parser.add_argument(
        "--allowed-signers",
        default="",
        metavar="FILE",
        help="check the signatures against this file, see ssh-keygen(1)",
    )


def add_review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the record's id (lifeboat report lists them)")
    parser.add_argument("--finding", default="", metavar="WORDS", help="what is to be improved; with --owner and --due")
    parser.add_argument("--owner", default="", metavar="NAME", help="who will do it")
    parser.add_argument("--due", default="", metavar="YYYY-MM-DD", help="by when")
    parser.add_argument("--sign-off", default="", metavar="NAME", help="who read the record and accepts it; final")
    parser.add_argument("--note", default="", metavar="WORDS", help="with the sign-off")


def report(config: Config, arguments: argparse.Namespace, log: Log) -> Answer:
    """Show the records. It fails, with exit code 6, if a record is not evidence or a signature is bad."""
    if arguments.id:
        kept = _checked(config, store.load(config, arguments.id), arguments.allowed_signers)
        return _show_record(kept, arguments.format)
    records = [_checked(config, item, arguments.allowed_signers) for item in store.everything(config)]
    said = {**answer(config, records), "host": "this host"}
    now = datetime.now(timezone.utc)
    if arguments.output:
        _stacks, files = reports_site.site([said], now)
        write(arguments.output, files)
    judged = judge(said, now)
    code = IntegrityError.exit_code if any(not item.good for item in judged.records) else 0
    result = {"overdue": [duty.name for duty in judged.overdue], "records": [_summary(item) for item in records]}
    shown = _lines(judged)
    return code, result, [*shown, f"written to {arguments.output}"] if arguments.output else shown


def review(config: Config, arguments: argparse.Namespace, log: Log) -> Answer:
    kept = store.review(
        config, arguments.id, finding=arguments.finding, owner=arguments.owner, due=arguments.due,
        by=arguments.sign_off, note=arguments.note, now=datetime.now(timezone.utc),
    )  # fmt: skip
    log(f"{arguments.id}: {'signed off by ' + arguments.sign_off if arguments.sign_off else 'a finding was added'}")
    seen = present(kept.record)
    findings = [f"finding  {finding.what} ({finding.owner}, {finding.due})" for finding in seen.findings]
    shown = [*findings, f"signed off by {seen.sign_off.by}" if seen.sign_off else "not signed off yet"]
    return 0, kept.body, [words.terminal(line) for line in shown]


def write(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write the files that differ, readable by their owner alone. Return their names. It removes nothing."""
    changed = differing(folder, files)
    for name in changed:
        path = folder / name
        with explained("write the report", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            partial.unlink(missing_ok=True)
            filesystem.write(path, files[name], partial)
    return changed


def differing(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    with explained("write the report", folder):
        return sorted(
            name for name, data in files.items()
            if not (folder / name).is_file() or (folder / name).read_bytes() != data
        )  # fmt: skip


def _checked(config: Config, item: StoredRecord, allowed_signers: str) -> StoredRecord:
    if not allowed_signers or item.record is None:
        return item
    said = signature.check(store.folder(config) / f"{item.id}.json", allowed_signers)
    return replace(item, signature=said, problem=item.problem or (said if said.startswith(signature.BAD) else ""))


def _show_record(item: StoredRecord, form: str) -> Answer:
    if item.record is None:
        raise IntegrityError("read the evidence", item.id, item.problem, "Keep it for inquiry; it proves nothing.")
    known = {"problem": item.problem, "signature": item.signature, "sha256": item.sha256}
    code = IntegrityError.exit_code if item.problem else 0
    if form != "text":
        page = reports_site.as_json(item.body) if form == "json" else reports_site.face(form, item.record, **known)
        return code, item.body, [page.rstrip("\n")]
    shown = [words.terminal(line) for line in record.lines(item.record)]
    shown += [f"signature: {item.signature}"]
    return code, item.body, [*shown, f"NO EVIDENCE: {item.problem}"] if item.problem else shown


def _summary(item: StoredRecord) -> dict[str, object]:
    keys = ("kind", "scenario", "recorded_at", "verdict", "seconds", "target_seconds")
    known = {key: item.body.get(key) for key in keys}
    return {"id": item.id, "problem": item.problem, "signature": item.signature, **known}


def _lines(judged: Stack) -> list[str]:
    shown = []
    for held in judged.records:
        seen = held.record
        if seen is None:
            shown.append(f"NO EVIDENCE       {held.id}: {held.problem}")
            continue
        verdict = seen.verdict if held.good else "NO EVIDENCE"
        allowed = f" of {words.duration(seen.target_seconds)}" if seen.target_seconds else ""
        tail = f"  {held.problem}" if held.problem else ""
        took = f"{words.duration(seen.seconds)}{allowed}"
        shown.append(f"{verdict:<16}  {held.id}  {seen.kind}  {took}  {held.signature}{tail}")
    for duty in judged.duties:
        when = f"last passed {duty.last:%Y-%m-%d}" if duty.last else "never passed"
        shown.append(f"{'due' if duty.state == OK else duty.state:<16}  {duty.name}: {when}, every {duty.days} days")
    return [words.terminal(name) for name in shown] or ["there is no record"]
