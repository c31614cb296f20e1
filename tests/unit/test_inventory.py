# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys by the million: hostile ones are told apart, memory stays bounded, a full disk is said."""

from __future__ import annotations

import gc
import os
import resource
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory

HOSTILE = [
    "a",
    "A",
    "a ",
    " a",
    "a//b",
    "/a",
    "a/",
    "..",
    "é",
    "e\u0301",
    "\u2028",
    "a\x00b",
    "a'; DROP TABLE live;--",
    "%",
    "_",
]


AT = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)


def lines(keys: list[str]) -> list[Listed]:
    return [Listed(key, len(key), "e", AT, vault_version=f"v-{key}") for key in keys]


def test_every_key_is_its_own() -> None:
    with Inventory() as one:
        assert one.add_listing("point", lines(HOSTILE)) == len(HOSTILE)
        assert one.add_listing("live", lines(HOSTILE[1:])) == len(HOSTILE) - 1
        missing = "point p WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = p.key)"
        assert one.counted(missing) == (1, ["a"])
        assert [(entry.key, entry.vault_version, entry.modified) for entry in one.entries("point")] == [
            (key, f"v-{key}", AT) for key in sorted(HOSTILE, key=str.encode)
        ]
        assert one.counted("live", shown=2) == (len(HOSTILE) - 1, sorted(HOSTILE[1:], key=str.encode)[:2])


def test_a_key_that_a_changing_listing_repeats_counts_once_and_as_said_last() -> None:
    with Inventory() as one:
        one.add("live", [("k", 1, "x", "", 0.0), ("k", 2, "y", "", 0.0)])
        assert list(one.each("SELECT key, size, etag FROM live")) == [("k", 2, "y")]


def test_one_that_nobody_has_is_closed() -> None:
    """Python 3.13 warns of a connection that was not, whenever its garbage is collected."""
    one = Inventory()
    base, kept = one._base, [one]
    kept.append(kept)  # type: ignore[arg-type]
    del one, kept
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        base.execute("SELECT 1")


RELEASED_IN_THE_MIDDLE = """
import threading
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory

numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000)"
for _round in range(8):  # without a lock one in three went well
    one, begun = Inventory(), threading.Event()
    one.function("begun", lambda number: begun.set() or number)
    count = numbers + " SELECT count(*) FROM c WHERE begun(1)"
    working = threading.Thread(target=lambda: print(one.value(count)), daemon=True)
    working.start()
    begun.wait()
    one.release()
    working.join()
"""


def test_released_while_a_thread_is_at_work() -> None:
    """As after Ctrl-C. In another process, for without a lock it ended by SIGSEGV."""
    command = [sys.executable, "-c", RELEASED_IN_THE_MIDDLE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, 8 * "300000\n", "")


@pytest.mark.slow
def test_memory_stays_bounded() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Inventory() as one:
        one.add("live", ((f"folder/{n % 97}/object-{n:09d}", n, "e" * 32, "", 0.0) for n in range(300_000)))
        assert one.count("live") == 300_000
        assert sum(size for (size,) in one.each("SELECT size FROM live ORDER BY etag, key")) == sum(range(300_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 120 << 10, f"{grown} KiB"


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def small(*args: object, **options: object) -> sqlite3.Connection:
        base = real("", isolation_level=None)
        base.execute("PRAGMA max_page_count = 40")
        return base

    monkeypatch.setattr(inventory.sqlite3, "connect", small)
    with Inventory() as one, pytest.raises(LifeboatError, match=r"disk is full.*SQLITE_TMPDIR"):
        one.add("live", ((f"key {n}", 1, "", "", 0.0) for n in range(10_000)))


def test_threads_share_it() -> None:
    """They share the statements that the connection has prepared, too: without a lock Python 3.13 mixed up the rows."""
    with Inventory() as one, ThreadPoolExecutor(8) as pool:

        def work(number: int) -> int:
            for turn in range(20):
                one.add("live", [(f"{number} {turn} {row}", 1, "x", "", 0.0) for row in range(100)])
                assert one.value("SELECT count(*) FROM live") >= 100
                assert one.change("DELETE FROM live WHERE size = 0") == 0
                one.add("live", [])
            return number

        assert list(pool.map(work, range(8))) == [*range(8)]
        assert one.count("live") == 8 * 20 * 100
