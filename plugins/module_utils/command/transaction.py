# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat transaction`: make the business transactions, keep a ledger of them, or compare one with what is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..base import text as base_text
from ..base import typed
from ..base.checks import CODES, COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from ..base.errors import LifeboatError, Log, UnverifiedError, UsageError
from ..drill import ledger
from ..drill import transaction as drill_transaction
from ..settings.config import Config


def options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--ledger", type=Path, metavar="FILE", help="repeat until stopped, and note what was acknowledged"
    )
    what.add_argument(
        "--compare", type=Path, metavar="FILE", help="say which entries of a ledger are there, and which are lost"
    )
    what.add_argument("--remove", type=Path, metavar="FILE", help="remove what a ledger's writer wrote, after a drill")
    parser.add_argument(
        "--seconds",
        type=float,
        default=ledger.LONGEST,
        help="with --ledger: stop after this many seconds (default: %(default)s)",
    )


def transaction_once(config: Config) -> list[Check]:
    found = []
    for transaction in config.drill.transactions:
        token = drill_transaction.new_token()
        try:
            written = drill_transaction.write(config, transaction, token)
            state = drill_transaction.read(config, transaction, token, written)
            good = state == drill_transaction.PRESENT
            words = "written and read back" if good else f"written, and {state} when it was read"
            found.append(Check(transaction.name, PASS if good else FAIL, words))
        except UnverifiedError as exc:
            found.append(Check(transaction.name, COULD_NOT_VERIFY, str(exc)))
        except LifeboatError as exc:
            found.append(Check(transaction.name, FAIL, str(exc)))
    return found


def run(loaded: Config, arguments: argparse.Namespace, log: Log) -> tuple[int, object, list[str]]:
    if not loaded.drill.transactions:
        remedy = "Name what a user writes and reads back, and deploy."
        raise UsageError("make a business transaction", loaded.stack, "lifeboat_drill.transactions is empty", remedy)
    if arguments.ledger:
        counts = ledger.keep(loaded, arguments.ledger, seconds=arguments.seconds)
        words = f"{counts.acknowledged} acknowledged, {counts.errors} failed: {arguments.ledger}"
        return 0, typed.plain(counts), [words]
    if arguments.compare:
        compared = ledger.compare(loaded, arguments.compare)
        found = typed.plain(compared, nulls=True)
        shown = [f"{key.replace('_', ' '):<14} {value}" for key, value in found.items() if value is not None]
        return (CODES[FAIL] if compared.lost else 0), found, shown
    if arguments.remove:
        gone, there = ledger.remove(loaded, arguments.remove)
        return 0, {"removed": gone, "writes": there}, [f"{gone} of {there} writes removed"]
    checks = transaction_once(loaded)
    shown = base_text.checks(checks)
    return CODES[verdict(checks)], {"checks": [check.as_dict() for check in checks]}, [*shown, verdict(checks)]
