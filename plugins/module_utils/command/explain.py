# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat explain`: the runbook of an alert, on the host and without a network.

It needs no configuration that can be read and no right: what an alert is about may be just that.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..base.errors import LifeboatError, UsageError
from ..settings import config
from . import runbooks

if TYPE_CHECKING:
    from .report import Answer

LANGUAGES = tuple(runbooks.SECTIONS)
_PLACEHOLDER = "<stack>"
_CODE = "    "  # what a command is indented by
_WIDEST = 100  # columns of a paragraph
_SENTENCE = re.compile(r".*?(?:。|[.:](?=\s|$))")
# Of an alert in each language: where its command is typed, and the stacks that the placeholder may stand for.
_WHERE = {"en": "Where: {}.", "ja": "実行する場所: {}。"}
_CHOICE = {"en": "{} is one of: {}.", "ja": "{} は次のいずれかです: {}。"}


@dataclass(frozen=True)
class Runbook:
    """paragraphs: each one line of text, or a block of commands whose lines are indented."""

    alert: str
    severity: str
    where: str
    paragraphs: tuple[str, ...]

    @property
    def summary(self) -> str:
        first = self.paragraphs[0]
        match = _SENTENCE.match(first)
        return match[0].rstrip(":") if match else first

    @property
    def commands(self) -> list[str]:
        blocks = [block for block in self.paragraphs if block.startswith(_CODE)]
        return [command[len(_CODE) :] for block in blocks for command in block.split("\n")]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "alert", nargs="?", default="", metavar="ALERT", help="the alert's name (default: list the alerts)"
    )
    parser.add_argument(
        "--language", choices=LANGUAGES, default="", help="the language of the text (default: the terminal's, else en)"
    )


def run(arguments: argparse.Namespace) -> Answer:
    language = arguments.language or _language()
    known = read(language)
    if not arguments.alert:
        wide = max(map(len, known))
        lines = [f"{alert:{wide}}  {runbook.severity:8}  {runbook.summary}" for alert, runbook in known.items()]
        listed = [
            {"alert": alert, "severity": runbook.severity, "summary": runbook.summary}
            for alert, runbook in known.items()
        ]
        return 0, listed, lines
    runbook = known[_name(arguments.alert, list(known))]
    directories = (
        (arguments.config_directory,)
        if arguments.config_directory
        else (config.DIRECTORY, config.KEEPER_DIRECTORY)
    )  # fmt: skip
    stacks = [arguments.stack] if arguments.stack else sorted({name for path in directories for name in _stacks(path)})
    runbook = _filled(runbook, stacks[0], directories) if len(stacks) == 1 else runbook
    lines = [f"{runbook.alert}  {runbook.severity}", _WHERE[language].format(runbook.where), ""]
    for paragraph in runbook.paragraphs:
        lines += [*_wrapped(paragraph, language), ""]
    unfilled = any(_PLACEHOLDER in paragraph for paragraph in runbook.paragraphs)
    if unfilled and len(stacks) > 1:
        lines += [_CHOICE[language].format(_PLACEHOLDER, ", ".join(stacks)), ""]
    result = {
        "alert": runbook.alert, "severity": runbook.severity, "where": runbook.where, "stacks": stacks,
        "paragraphs": list(runbook.paragraphs), "commands": runbook.commands,
    }  # fmt: skip
    return 0, result, lines[:-1]


def read(language: str) -> dict[str, Runbook]:
    """Return the runbook of each alert, in the order of the rules."""
    parsed = {}
    for section in re.split(r"^## ", runbooks.SECTIONS[language], flags=re.MULTILINE)[1:]:
        head, *paragraphs = section.strip("\n").split("\n\n")
        alert, severity, where = head.split(" ", 2)
        parsed[alert] = Runbook(alert, severity, where, tuple(paragraphs))
    return parsed


def _language() -> str:
    """Return the language of the terminal, by the variables that the C library reads, in its order."""
    values = [os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")]
    first = next(filter(None, values), "")
    return "ja" if re.split(r"[_.@]", first)[0] == "ja" else "en"


def _name(typed: str, alerts: Sequence[str]) -> str:
    """Return the alert that was meant: capitals do not matter, nor whether `Lifeboat` stands in front."""
    by_name = {alert.lower(): alert for alert in alerts}
    wanted = typed.lower()
    exact = by_name.get(wanted) or by_name.get(f"lifeboat{wanted}")
    if exact:
        return exact
    short = {name.removeprefix("lifeboat"): alert for name, alert in by_name.items()}
    wanted = wanted.removeprefix("lifeboat")
    near = [alert for name, alert in short.items() if len(wanted) > 2 and wanted in name]
    near += [short[name] for name in difflib.get_close_matches(wanted, short, n=3, cutoff=0.5)]
    nearest = ", ".join(dict.fromkeys(near))
    remedy = f"The nearest: {nearest}." if nearest else "`lifeboat explain` lists the alerts."
    raise UsageError("explain the alert", typed, "no alert has this name", remedy)


def _stacks(directory: Path) -> list[str]:
    try:
        return config.stacks(directory)
    except OSError:  # others than root may not look there
        return []


def _filled(runbook: Runbook, stack: str, directories: Sequence[Path]) -> Runbook:
    """Return it with the stack's name in place of the placeholder, and with what its log needs, which may be JSON."""
    paragraphs = tuple(paragraph.replace(_PLACEHOLDER, stack) for paragraph in runbook.paragraphs)
    if _logs_json(stack, directories):
        paragraphs = tuple(
            text.replace("grep ERROR", 'grep \'"log.level": "error"\'') if text.startswith(_CODE) else text
            for text in paragraphs
        )
    return Runbook(runbook.alert, runbook.severity, runbook.where, paragraphs)


def _logs_json(stack: str, directories: Sequence[Path]) -> bool:
    return any(loaded.monitoring.log_format == "json" for path in directories if (loaded := _loaded(stack, path)))


def _loaded(stack: str, directory: Path) -> Optional[config.Config]:
    try:
        return config.load(stack, directory)
    except (LifeboatError, OSError):
        return None


def _wrapped(paragraph: str, language: str) -> list[str]:
    """Lines for a terminal. It breaks Japanese itself, which has no spaces."""
    if paragraph.startswith(_CODE) or language != "en" or not sys.stdout.isatty():
        return paragraph.split("\n")
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    return textwrap.wrap(paragraph, max(columns, 20), break_long_words=False, break_on_hyphens=False)
