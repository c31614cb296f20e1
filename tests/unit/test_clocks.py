# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that jumped makes every backup old. Nothing is deleted before another clock, or a record, agrees with it."""

from __future__ import annotations

import dataclasses
import email.utils
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import clock_guard, prune
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, entries, make_config, publish

DAY = timedelta(days=1)
FAR = datetime(2099, 1, 1, 2, tzinfo=timezone.utc)
KEYS = {"vault_access_key": "key", "vault_secret_key": "secret"}


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone."""
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path}))


def pruned(config: Config, now: datetime, **more: Any) -> list[str]:
    return prune.prune(Opened(config), now=now, dry_run=False, log=len, **more)["delete"]


def fifty(tmp_path: Path) -> Config:
    for days in range(49):
        publish(tmp_path, NOW - days * DAY)
    rules = {"daily_days": 60, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
    return make_config(tmp_path, retention=rules)


def test_a_backup_and_a_pruning_in_2099_delete_nothing(tmp_path: Path) -> None:
    """All that is known is what the repository says: nothing was backed up for 72 years, and now something is."""
    config = fifty(tmp_path)
    publish(tmp_path, FAR)
    with pytest.raises(UsageError, match="no good backup and no pruning") as raised:
        pruned(config, FAR + timedelta(minutes=1))
    assert "from 2026-11-24T12:00:00.000Z to 2099-01-01T02:00:00.000Z" in raised.value.cause
    assert "lifeboat prune --stack shop --trust-clock" in raised.value.remedy
    assert len(entries(tmp_path)) == 50
    assert pruned(config, NOW) == [], "the clock was set: it goes on, and the one of 2099 is kept"
    assert len(entries(tmp_path)) == 50


def test_with_a_record_of_the_last_pruning_a_jump_of_weeks_is_seen(tmp_path: Path) -> None:
    config = fifty(tmp_path)
    assert pruned(config, NOW) == []
    jumped = NOW + 45 * DAY
    for minutes in range(5):
        publish(tmp_path, jumped + timedelta(minutes=minutes))
    with pytest.raises(UsageError, match="no server's clock to compare with"):
        pruned(config, jumped + timedelta(hours=1))
    assert len(entries(tmp_path)) == 54
    assert pruned(config, jumped + timedelta(hours=1), trust_clock=True), "the operator said it is right"
    assert pruned(config, jumped + timedelta(hours=2)) == [], "and need not say it again"


def test_a_dry_run_is_refused_too_and_leaves_no_record(tmp_path: Path) -> None:
    config = fifty(tmp_path)
    with pytest.raises(UsageError):
        prune.prune(Opened(config), now=FAR, dry_run=True, log=len)
    prune.prune(Opened(config), now=NOW, dry_run=True, log=len)
    assert not (config.state / clock_guard.MARK).exists()


def test_a_clock_that_went_back(tmp_path: Path) -> None:
    config = fifty(tmp_path)
    pruned(config, NOW)
    assert pruned(config, NOW - timedelta(minutes=59)) == [], "clocks are set by seconds all the time"
    with pytest.raises(UsageError, match=r"it is 2023-11-24T12.* here, and it was pruned at 2026-11-24T11"):
        pruned(config, NOW - 1096 * DAY)


def test_backups_explain_a_long_time_without_pruning(tmp_path: Path) -> None:
    config = fifty(tmp_path)
    pruned(config, NOW - 48 * DAY)
    assert pruned(config, NOW) == [], "49 days later, with a backup each day"


@pytest.mark.parametrize("record", ["", "{", "[]", '{"at": "noon"}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, record: str) -> None:
    config = fifty(tmp_path)
    config.state.mkdir()
    (config.state / clock_guard.MARK).write_text(record)
    assert pruned(config, NOW) == []
    with pytest.raises(UsageError):
        pruned(config, FAR)


# --- the vault's Date header ---


@contextmanager
def server(ahead: timedelta, status: int = 403) -> Iterator[str]:
    """One that refuses everything, as S3 refuses a request that is dated 15 minutes off, and says what time it is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", email.utils.format_datetime(datetime.now(timezone.utc) + ahead, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()


def with_vault(tmp_path: Path, url: str) -> Config:
    vault = {"objects_bucket": "mirror", "endpoint_url": url}
    return dataclasses.replace(make_config(tmp_path, vault=vault), secrets=KEYS)


@pytest.mark.parametrize("ahead", [-72 * 366 * DAY / 2, 40 * DAY, -2 * timedelta(hours=1)], ids=str)
def test_the_vaults_clock_disagrees(tmp_path: Path, ahead: timedelta) -> None:
    publish(tmp_path)
    with server(ahead) as url, pytest.raises(UsageError, match=r"the clock of s3://mirror .* s from this host's"):
        pruned(with_vault(tmp_path, url), NOW)


def test_the_vaults_clock_agrees(tmp_path: Path) -> None:
    """A stack that was away for years: no record and no backup in between, and a server that knows the time."""
    for days in (0, 1, 2, 900, 901):
        publish(tmp_path, NOW - days * DAY)
    with server(timedelta(minutes=5)) as url:
        assert len(pruned(with_vault(tmp_path, url), NOW)) == 2


def test_a_vault_that_does_not_answer_is_no_clock(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server's clock to compare with"):
        clock_guard.require(with_vault(tmp_path, "http://127.0.0.1:9"), [NOW - 900 * DAY], NOW)
