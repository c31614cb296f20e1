# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is named in lifeboat_notify is told by this host what failed and what is well again, without Prometheus.

A run notes how it ended, the hourly look what status found. Of each receiver is remembered what it was told: it is told
what is new, once a day that it lasts, and that it is over. What did not arrive is told again with the next look.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional

from ..base import filesystem, lock, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, Verdict
from ..base.clock import TOLERANCE
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..base.text import printable_json
from ..repository.components import taken
from ..repository.details import Count
from ..settings.config import Config
from ..settings.parts import AnyReceiver
from ..tools.notices import FAILURE, RECOVERY, TEST, WEEKLY, Kind, Notice, Sent, Trouble, shown_time
from . import receivers
from .receivers import PATIENCE

REPEAT, WEEK = timedelta(hours=24), timedelta(days=7)
LATE = timedelta(hours=26)  # since the last look, from which on its schedule is in doubt
UNTRIED = timedelta(days=100)  # since a receiver last took anything
KIND = "notify"  # of the checks
_JITTER = timedelta(minutes=30)  # the look of tomorrow may begin a moment earlier
_WAIT = 1.5 * PATIENCE  # seconds, while another run tells them
_FOLDER = "notify"
_CAUSE = 280  # characters of the beginning and of the end of what a run that failed said


@dataclass(frozen=True)
class Delivery:
    """What one receiver was told and has not heard the end of, by key. problem: of the last attempt. failures: how many
    attempts failed since the last that did not."""

    reported: Mapping[str, Trouble] = field(default_factory=dict)
    reported_at: Optional[datetime] = None
    weekly_at: Optional[datetime] = None
    tried_at: Optional[datetime] = None
    succeeded_at: Optional[datetime] = None
    problem: str = ""
    failures: Count = 0

    def tried(self, sent: Sent, now: datetime) -> Delivery:
        if sent.problem:
            return replace(self, tried_at=now, problem=sent.problem, failures=self.failures + 1)
        return replace(self, tried_at=now, succeeded_at=now, problem="", failures=0)


@dataclass(frozen=True)
class Memory:
    """troubles: what the last look found."""

    looked_at: Optional[datetime] = None
    troubles: tuple[Trouble, ...] = ()
    receivers: Mapping[str, Delivery] = field(default_factory=dict)


def ended(
    config: Config, run: str, code: Optional[int], report: Sequence[str], now: datetime, warn: Log, *, quiet: bool
) -> None:
    """Note how a run of scheduled work ended, and tell what is new. What goes wrong is a warning: a backup that was
    taken does not fail for it.

    code: the exit code; None: it was interrupted, or failed unforeseen. quiet: somebody sees it, so that a failure is
    not told; that it is well again is.
    """
    try:
        if code == 0 or not quiet:
            _note(config, run, code, report, now)
            for check in tell(config, now):
                if check.result != PASS:
                    warn(f"{check.name}: {check.detail}")
    except LifeboatError as exc:
        warn(f"nobody is told how {run} ended: {exc}")
    except Exception as exc:  # a defect here must not hide how the backup itself ended
        warn(f"nobody is told how {run} ended: {type(exc).__name__}, which Lifeboat does not foresee")


def _note(config: Config, run: str, code: Optional[int], report: Sequence[str], now: datetime) -> None:
    path = config.state / _FOLDER / f"run-{run}.json"
    with filesystem.explained("note how the run ended", path):
        if code == 0:
            # A backup of everything makes up for those of single components.
            for done in (path, *(path.parent.glob(f"run-{run}_*.json") if run == "backup" else ())):
                done.unlink(missing_ok=True)
            return
    before = _trouble(path)
    verb, component = run.partition("_")[::2]
    name = " ".join(filter(None, (verb, component)))
    command = " ".join(("lifeboat", verb, *((component,) if component in taken() else ())))
    how = "was interrupted, or failed unforeseen" if code is None else f"failed with exit code {code}"
    detail = ": ".join(filter(None, (how, _cause(receivers.safe(config, " ".join(_wrong(report)), 100_000)))))
    result: Verdict = COULD_NOT_VERIFY if code == UnverifiedError.exit_code else FAIL
    trouble = Trouble(
        f"run {run}", name, result, detail, before.since if before else now,
        f"grep ERROR /var/log/lifeboat/{config.stack}.log | tail; {command} --stack {config.stack}",
    )  # fmt: skip
    filesystem.remember(path, _json(trouble), attempted="note how the run ended")


def _wrong(report: Sequence[str]) -> list[str]:
    """Return what a run said but for the checks that passed, which may be many around the one that did not."""
    return [line for line in report if not line.startswith(f"{PASS} ")]


def _cause(text: str) -> str:
    """Return the beginning, which says what was attempted, and the end, which says what to do next."""
    return text if len(text) <= 2 * _CAUSE else f"{text[:_CAUSE]} […] {text[-_CAUSE:]}"


def _trouble(path: Path) -> Optional[Trouble]:
    try:
        return typed.maybe(Trouble, filesystem.read_plain(path))
    except OSError:
        return None


def _json(value: object) -> bytes:
    return printable_json(typed.plain(value)).encode() + b"\n"


def memory(config: Config) -> Memory:
    """Return what is remembered; nothing where it cannot be read, so that all is told once more."""
    try:
        return typed.maybe(Memory, filesystem.read_plain(_path(config))) or Memory()
    except OSError:
        return Memory()


def _path(config: Config) -> Path:
    return config.state / _FOLDER / "memory.json"


def tell(
    config: Config, now: datetime, looked: Optional[Sequence[Trouble]] = None, remarks: Sequence[str] = ()
) -> list[Check]:
    """Tell each receiver what it does not know yet; return a check for each to which something was sent.

    looked: what status found now; None: it was not asked. remarks: the weekly word, where all is well.
    """
    with lock.held(f"{config.stack}.{KIND}", "tell the receivers", wait=_WAIT):
        known = memory(config)
        if looked is not None:
            known = replace(known, looked_at=now, troubles=tuple(looked))
        current = {trouble.key: trouble for trouble in (*known.troubles, *_failed_runs(config))}
        deliveries = {receiver.name: known.receivers.get(receiver.name, Delivery()) for receiver in config.notify}
        current.update({trouble.key: trouble for trouble in _unreachable(config, deliveries, now)})
        notices = {
            receiver.name: notice for receiver in config.notify
            if (notice := _notice(config, receiver, deliveries[receiver.name], current, now, remarks))
        }  # fmt: skip
        answers = send(config, notices)
        deliveries.update({name: _after(deliveries[name], notices[name], answers[name], now) for name in notices})
        data = _json(replace(known, receivers=deliveries))
        filesystem.remember(_path(config), data, attempted="remember who was told")
    return [_checked(name, sent) for name, sent in answers.items()]


def _failed_runs(config: Config) -> Iterator[Trouble]:
    for path in sorted((config.state / _FOLDER).glob("run-*.json")):
        if found := _trouble(path):
            yield found


def _unreachable(config: Config, deliveries: Mapping[str, Delivery], now: datetime) -> Iterator[Trouble]:
    """Yield the receivers that could not be told, for the others. One attempt that fails is made up for by the next."""
    for name, delivery in deliveries.items():
        if delivery.failures > 1:
            remedy = f"lifeboat notify --test --stack {config.stack}"
            yield Trouble(_key(name), _key(name), FAIL, delivery.problem, delivery.tried_at or now, remedy)


def _key(receiver: str) -> str:
    return f"{KIND} {receiver}"


def _notice(
    config: Config, receiver: AnyReceiver, delivery: Delivery, current: Mapping[str, Trouble], now: datetime,
    remarks: Sequence[str],
) -> Optional[Notice]:  # fmt: skip
    """Return what the receiver is told now; None where it knows all."""
    current = {key: trouble for key, trouble in current.items() if key != _key(receiver.name)}
    again = delivery.reported_at is None or _due(delivery.reported_at, REPEAT, now)
    failed = [trouble for trouble in current.values() if again or _is_news(trouble, delivery.reported.get(trouble.key))]
    lasting = [trouble for trouble in current.values() if trouble not in failed]
    over = [trouble for key, trouble in delivery.reported.items() if key not in current]
    due = delivery.weekly_at is None or _due(delivery.weekly_at, WEEK, now) or bool(delivery.problem)
    weekly = remarks if receiver.weekly and due and not current else ()
    if not (failed or over or weekly):
        return None
    kind: Kind = FAILURE if failed else RECOVERY if over else WEEKLY
    return Notice(kind, config.stack, socket.gethostname(), now, failed, lasting, over, weekly)


def _is_news(trouble: Trouble, before: Optional[Trouble]) -> bool:
    return before is None or (trouble.result == FAIL and before.result != FAIL)


def _due(last: datetime, every: timedelta, now: datetime) -> bool:
    """A time of the future is one that a clock showed which was wrong."""
    return now - last >= every - _JITTER or last > now + TOLERANCE


def _after(delivery: Delivery, notice: Notice, sent: Sent, now: datetime) -> Delivery:
    delivery = delivery.tried(sent, now)
    if sent.problem and not sent.partly:
        return delivery
    return replace(
        delivery, reported={trouble.key: trouble for trouble in (*notice.failed, *notice.lasting)},
        reported_at=now if notice.failed else delivery.reported_at,
        weekly_at=now if notice.remarks else delivery.weekly_at,
    )  # fmt: skip


def test(config: Config, now: datetime) -> tuple[str, list[Check]]:
    """Send each receiver a test message; return its id, and what each answered."""
    identity = uuid.uuid4().hex
    words = (f"Nothing is wrong. Somebody tries lifeboat_notify ({identity}).",)
    notice = Notice(TEST, config.stack, socket.gethostname(), now, remarks=words)
    with lock.held(f"{config.stack}.{KIND}", "test the receivers", wait=_WAIT):
        answers, known = send(config, {receiver.name: notice for receiver in config.notify}), memory(config)
        deliveries = dict(known.receivers)
        for name, sent in answers.items():
            deliveries[name] = deliveries.get(name, Delivery()).tried(sent, now)
        data = _json(replace(known, receivers=deliveries))
        filesystem.remember(_path(config), data, attempted="remember who was told")
    return identity, [_checked(name, sent) for name, sent in answers.items()]


def _checked(name: str, sent: Sent) -> Check:
    return Check(
        _key(name), FAIL if sent.problem else PASS, sent.problem or "it took the message", kind=KIND, subject=name
    )


def send(config: Config, notices: Mapping[str, Notice], patience: float = PATIENCE) -> dict[str, Sent]:
    """Send to all receivers at once.

    Threads, because neither looking up a name nor an answer that comes byte by byte has a time limit of its own.
    """
    answers, deadline = dict[str, Sent](), time.monotonic() + patience
    threads: list[threading.Thread] = []

    def work(receiver: AnyReceiver) -> None:
        try:
            sent = receivers.deliver(config, receiver, notices[receiver.name])
        except Exception as exc:  # in a thread it would be lost, and the others' answers with it
            sent = Sent(f"{type(exc).__name__}, which Lifeboat does not foresee")
        answers[receiver.name] = replace(sent, problem=receivers.safe(config, sent.problem, 300))

    for receiver in config.notify:
        if receiver.name in notices:
            thread = threading.Thread(target=work, args=(receiver,), daemon=True)
            try:
                thread.start()
            except RuntimeError:
                answers[receiver.name] = Sent("the system gives no more threads")
            else:
                threads.append(thread)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {name: answers.get(name, Sent(f"no answer within {patience:.0f} s")) for name in notices}


def checks(config: Config, now: datetime) -> Iterator[Check]:
    """Yield for status whether each receiver could be told, and whether anybody looks."""
    known = memory(config)
    late = known.looked_at is not None and now - known.looked_at > LATE
    for receiver in config.notify:
        name, delivery = receiver.name, known.receivers.get(receiver.name, Delivery())
        last, ask = delivery.succeeded_at, f"try it: lifeboat notify --test --stack {config.stack}"
        if delivery.problem:
            at = shown_time(delivery.tried_at) if delivery.tried_at else "?"
            result, words = FAIL, f"it was not told at {at}: {delivery.problem}; {ask}"
        elif late and known.looked_at:
            words = f"nobody has looked since {shown_time(known.looked_at)}: is `lifeboat notify` in the schedule?"
            result, words = FAIL, f"{words} Run lifeboat.dr.deploy"
        elif last is None or now - last > UNTRIED:
            words = "it was never told anything" if last is None else f"it was last told anything at {shown_time(last)}"
            result, words = COULD_NOT_VERIFY, f"{words}; {ask}"
        else:
            result, words = PASS, f"it took a message at {shown_time(last)}"
        yield Check(_key(name), result, words, kind=KIND, subject=name)
