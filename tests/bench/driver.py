# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of the core that have no word in the `lifeboat` command, in a process of their own. Prints JSON.

driver.py restore CONFIG-DIRECTORY ID DATABASE   the data step of a recovery, into a fresh database
driver.py recover CONFIG-DIRECTORY ID            the same, then compared, analysed and swapped in
driver.py retention COUNT                        the plan over so many backups
driver.py mirror CONFIG-DIRECTORY                the bucket to the vault
driver.py listing CONFIG-DIRECTORY [now]         what a mirror must list, at once: the source's versions (now: its
                                                 current objects) and the vault's current objects
driver.py recover-objects CONFIG-DIRECTORY       the store, as the role does it: planned, protected, restored, proved
driver.py files CONFIG-DIRECTORY                 a backup of the files
driver.py recover-files CONFIG-DIRECTORY KEY     what is lost of them, planned, restored, compared
driver.py wal-enable CONFIG-DIRECTORY            role and slot of continuous protection, without its units
driver.py wal-sent CONFIG-DIRECTORY              until all WAL that is flushed now is in the repository
driver.py prune CONFIG-DIRECTORY DAYS            the mirror's old versions, as if the newest were so many days on
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

# The command holds only what it imports itself; these parts come from the collection, as modules have them.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible" / "collections"))


def _quiet(_: str) -> None:
    pass


def restore(directory: str, identity: str, database: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
    from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import facts_of
    from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as core
    from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest, repositories
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    run = Opened(config.load("", Path(directory)))
    repo = repositories.repository_of(run)
    found = manifest.parse(repo.manifest("database", identity), component="database", expected_id=identity)
    server = database_server.of(run)
    with repo.materialise("database", identity) as folder:
        facts = facts_of(folder)
        core.database(server, found, folder, facts, database, jobs=run.config.database.jobs, log=_quiet)
    return {}


def recover(directory: str, identity: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    loaded = config.load("", Path(directory))
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d_%H%M%S")
    result = database_recovery.restore_database(Opened(loaded), identity, fresh=False, stamp=stamp, log=_quiet)
    return {"phases": result.seconds, "quarantined": result.quarantined_database}


def retention(count: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import Backup, Policy, plan

    newest = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
    backups = [
        Backup(f"db_backup_{number}", newest - timedelta(hours=number), good=number % 50 != 7, verified=number % 7 == 0)
        for number in range(int(count))
    ]
    start, cpu = time.monotonic(), time.process_time()
    made = plan(backups, Policy(timezone="Asia/Tokyo"), newest + timedelta(hours=1))
    return {
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
        "kept": len(made.keep),
        "deleted": len(made.delete),
    }


def mirror(directory: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take as core
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    details = core.take(Opened(config.load("", Path(directory))), log=_quiet).details
    return {name: details[name] for name in ("objects", "bytes", "copied", "removed", "consistency", "missing")}


def recover_objects(directory: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan, recovery
    from ansible_collections.lifeboat.dr.plugins.module_utils.objects.choose import Request
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    loaded = config.load("", Path(directory))
    made = plan.make(Opened(loaded), Request(), log=_quiet)
    recovery.protect(Opened(loaded), made, log=_quiet)
    names = ("stamp", "prefix", "exact", "partial", "state", "bucket")
    asked = {"requested": made.asked, "additional": made.additional, **{name: getattr(made, name) for name in names}}
    done = recovery.restore_objects(Opened(loaded), str(made.backup["id"]), log=_quiet, **asked)
    bad = [f"{check.name}: {check.detail}" for check in done.checks if check.result == "FAIL"]
    return {"copied": done.copied.copied, "seconds": dict(done.seconds), "bad": bad}


def listing(directory: str, of: str = "") -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    run = Opened(config.load("", Path(directory)))
    with ThreadPoolExecutor(2) as pool:
        source = pool.submit(lambda: sum(1 for _ in (bucket.objects if of else bucket.versions)(buckets.source(run))))
        vault = pool.submit(lambda: sum(1 for _ in bucket.objects(buckets.vault(run))))
        return {"listed": source.result() + vault.result()}


def prune(directory: str, days: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing as mirror_listing
    from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import prune as mirror_prune
    from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    run = Opened(config.load("", Path(directory)))
    repo = repositories.repository_of(run)
    kept = [entry.manifest for entry in catalog.entries(repo, "objects", run.config.stack) if entry.manifest]
    newest = datetime.now(timezone.utc) + timedelta(days=int(days))
    points = [mirror_listing.Point(repo, identity) for identity in kept]
    done = mirror_prune.prune(run, points, newest, dry_run=False)
    return {"versions": done.versions, "bytes": done.bytes, "kept": list(done.retained), "backups": len(points)}


def files(directory: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    taken = backup.take(Opened(config.load("", Path(directory))), log=_quiet)
    return {"id": taken.id, "size": taken.size}


def recover_files(directory: str, key: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.files import plan, recovery
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    run = Opened(config.load("", Path(directory)), key=Path(key).read_text(encoding="utf-8"))
    made = plan.make(run, plan.Request(), log=_quiet)
    done = recovery.recover(run, made, log=_quiet)
    bad = [f"{check.name}: {check.detail}" for check in done.checks if check.result != "PASS"]
    if bad:
        raise SystemExit("; ".join(bad))
    return {"restored": done.restored}


def wal_enable(directory: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
    from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import preflight, receiver
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

    run = Opened(config.load("", Path(directory)))
    server = database_server.connect(run.config, run.runtime)
    facts = preflight.read(server)
    receiver.make_role(server)
    receiver.try_connection(run, receiver.way(run, server, facts), facts)
    receiver.remember(run.config, receiver.Enabled(facts.system, 4 << 30, True, True))
    return {}


def wal_sent(directory: str) -> dict[str, Any]:
    from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
    from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import send
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
    from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
    from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn

    run = Opened(config.load("", Path(directory)))
    server = database_server.connect(run.config, run.runtime)
    (flushed,) = server.execute("SELECT to_json(pg_current_wal_flush_lsn()::text);", attempted="ask for the position")
    end, deadline = parse_lsn(str(flushed)), time.monotonic() + 120
    while parse_lsn(send.send(run, _quiet).position) < end:
        if time.monotonic() > deadline:
            raise SystemExit(f"not all WAL until {flushed} was received within 120 s")
        time.sleep(0.2)
    return {}


VERBS: dict[str, Callable[..., Any]] = {
    "restore": restore,
    "recover": recover,
    "retention": retention,
    "mirror": mirror,
    "listing": listing,
    "recover-objects": recover_objects,
    "prune": prune,
    "wal-enable": wal_enable,
    "wal-sent": wal_sent,
    "files": files,
    "recover-files": recover_files,
}

if __name__ == "__main__":
    print(json.dumps(VERBS[sys.argv[1]](*sys.argv[2:])))
