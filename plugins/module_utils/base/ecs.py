# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines as JSON with the names of the Elastic Common Schema, one line an event.

https://www.elastic.co/docs/reference/ecs/ecs-field-reference and, for the order and form of the first fields,
https://github.com/elastic/ecs-logging/blob/main/spec/spec.json
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
from datetime import datetime, timezone
from typing import NamedTuple, Optional

from .text import printable_json
from .version import VERSION

ECS = "8.11.0"
LONGEST = 6 << 10  # bytes of a message in JSON: a whole line stays below the 8 KiB at which rsyslog cuts
_UNVERIFIED = 3  # the exit code of errors.UnverifiedError


class Line(NamedTuple):
    """What a line says, for those who read the log again."""

    at: str
    process: str
    level: str
    text: str


class Formatter(logging.Formatter):
    """A record in one line. It does not scrub: what it is given was scrubbed, whole, before it is cut here.

    The end of a run has the attribute exit_code. Time, process and sequence together are unique on a host, so that
    a shipper that sends a line twice can be seen through.
    """

    def __init__(self, stack: str, verb: str) -> None:
        super().__init__()
        self._stack, self._verb, self._sequence = stack, verb, itertools.count()
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        fields: dict[str, object] = {
            "@timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
            "log.level": record.levelname.lower(),
            "message": "",
            "ecs.version": ECS,
            "service.name": "lifeboat",
            "service.version": VERSION,
            "event.dataset": "lifeboat.log",
            "event.kind": "event",
            "event.action": self._verb,
            "event.sequence": next(self._sequence),
            "host.hostname": self._host,
            "process.pid": record.process,
            "labels": {"stack": self._stack},
        }
        code = getattr(record, "exit_code", None)
        if code is not None:
            outcome = "success" if code == 0 else "unknown" if code == _UNVERIFIED else "failure"
            fields.update({"event.outcome": outcome, "process.exit_code": code})
        # The message is bounded in its own JSON, which is put where the empty one stands.
        before, empty, after = json.dumps(fields, ensure_ascii=False).partition('"message": ""')
        return f"{before}{empty[:-2]}{_bounded(record.getMessage())}{after}"


def _bounded(text: str) -> str:
    """A text as JSON, in the clear but for what does not belong into a line, and cut where it is too long."""
    whole = text.encode("utf-8", "backslashreplace").decode()  # half a pair of surrogates is no UTF-8
    said = printable_json(whole[:LONGEST])
    if len(whole) <= LONGEST and len(said.encode()) <= LONGEST:
        return said
    kept, size = 0, 100  # for the words at the end
    for letter in whole:
        size += len(printable_json(letter).encode()) - 2
        if size > LONGEST:
            break
        kept += 1
    return printable_json(f"{whole[:kept]} … and {len(whole) - kept} more characters")


def read(line: str) -> Optional[Line]:
    """None where it is not a line of ours."""
    try:
        said = json.loads(line)
        at, level, text, process = (said[name] for name in ("@timestamp", "log.level", "message", "process.pid"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in (at, level, text)) or not isinstance(process, int):
        return None
    return Line(at, str(process), level.upper(), text)
