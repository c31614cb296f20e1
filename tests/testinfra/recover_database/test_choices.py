"""Which backup, which host, and what a recovery leaves behind when it cannot be done or is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from recovery import RECOVER, phase_facts, serves, write_a_row
from support import APP, ROOT, Host, Stack, playbook

pytestmark = pytest.mark.long


def test_confirming_another_host_changes_nothing(shop: Stack, backed_up: list[str]) -> None:
    before = shop.host.world()
    run = playbook(RECOVER, confirm="test-app2", force=True)
    assert run.status != 0
    assert "confirm=test-app2 names no host of this play" in run.said
    assert (shop.host.world(), shop.portrait()) == (before, backed_up)


def test_a_time_before_the_first_backup_is_an_error(shop: Stack, backed_up: list[str]) -> None:
    before = shop.host.world()
    run = playbook(RECOVER, confirm=APP, recovery_time="2020-02-29T00:00:00+09:00")
    assert run.status != 0
    first = shop.host.lifeboat("list", "--component", "database")[1][0]["taken_at"]
    assert f"taken at or before 2020-02-28T15:00:00.000Z): the first is of {first}" in run.said
    assert (shop.host.world(), shop.portrait()) == (before, backed_up)


def test_an_unknown_recovery_point_is_an_error(shop: Stack, backed_up: list[str]) -> None:
    before = shop.host.world()
    run = playbook(RECOVER, confirm=APP, recovery_point="db_backup_20200101_000000")
    assert run.status != 0
    known = shop.host.lifeboat("list", "--component", "database")[1]
    assert f"the repository has {', '.join(backup['id'] for backup in known[-5:])}" in run.said
    assert (shop.host.world(), shop.portrait()) == (before, backed_up)


def test_a_login_that_is_refused_is_not_a_lost_database(shop: Stack, backed_up: list[str]) -> None:
    """Taken for one, a healthy database would be moved aside. Somebody dropped the role since the deploy."""
    with edited(shop.host, "/etc/lifeboat/shop.json") as settings:
        settings["database"]["user"] = "mallory"
        save(shop.host, "/etc/lifeboat/shop.json", settings)
        before = shop.host.world()
        run = playbook(RECOVER, confirm=APP)
        assert run.status != 0
        assert 'role "mallory" does not exist' in run.said
        assert "Correct lifeboat_database" in run.said
        assert (shop.host.world(), shop.portrait()) == (before, backed_up)


SETTINGS = "/etc/lifeboat/shop.json"
WITHOUT_VAULT = f"""
import json
with open("{SETTINGS}") as file:
    settings = json.load(file)
settings.pop("vault", None)
settings.pop("objects", None)
with open("{SETTINGS}", "w") as file:
    json.dump(settings, file)
"""


@contextmanager
def broken_newest(shop: Stack) -> Iterator[None]:
    """Some bytes of the newest backup's fingerprint are others, as only reading it shows."""
    path = f"{folder_of(shop, 'newer')}/fingerprint.json"
    shop.host.run("cp", "--preserve", path, "/root/fingerprint.json")
    shop.host.run("cp", "--preserve", SETTINGS, "/root/settings.json")
    try:
        shop.host.run("sh", "-c", f"printf 'not what I wrote' | dd of={path} bs=1 seek=100 conv=notrunc status=none")
        yield
    finally:
        shop.host.run("mv", "/root/fingerprint.json", path)
        shop.host.run("mv", "/root/settings.json", SETTINGS)


def test_a_broken_newest_backup_is_passed_over(shop: Stack, backed_up: list[str]) -> None:
    """No copy is kept: it says so, and names the next one, before anything is touched."""
    with broken_newest(shop):
        shop.host.python(WITHOUT_VAULT)
        plan = playbook(RECOVER, force=True)
        assert (plan.status, plan.changed) == (0, 0), plan.said
        assert f"backup: {shop.marks['older']}" in plan.said
        assert f"passed over {shop.marks['newer']}: fingerprint.json has another SHA-256" in plan.said
        named = playbook(RECOVER, confirm=APP, recovery_point=shop.marks["newer"])
        assert named.status != 0
        assert "fingerprint.json has another SHA-256" in named.said
    assert shop.portrait() == backed_up


def test_the_copy_in_the_vault_stands_in_for_a_broken_one(shop: Stack, backed_up: list[str]) -> None:
    """The very same backup is whole in the vault, so nothing older is used; and the recovery really takes it there."""
    with broken_newest(shop):
        plan = playbook(RECOVER, force=True)
        assert (plan.status, plan.changed) == (0, 0), plan.said
        assert f"backup: {shop.marks['newer']}" in plan.said
        assert "in the repository; the vault has a copy" in plan.said
        assert "it is taken from the vault: s3://shop-repository/shop at http" in plan.said
        run = playbook(RECOVER, confirm=APP, force=True)
        assert run.status == 0, run.said
    assert shop.portrait() == backed_up
    shop.forget_quarantine()


def test_an_older_state_and_back_again(shop: Stack, backed_up: list[str]) -> None:
    """By id to the older backup, by time to the newer one; each a second time, which changes nothing."""
    newer = next(backup for backup in shop.host.lifeboat("list")[1] if backup["id"] == shop.marks["newer"])
    for choice, expected in (
        ({"recovery_point": shop.marks["older"]}, shop.marks["older portrait"]),
        ({"recovery_time": newer["taken_at"]}, backed_up),
    ):
        run = playbook(RECOVER, confirm=APP, **choice)
        assert run.status == 0, run.said
        assert shop.portrait() == expected
        again = playbook(RECOVER, confirm=APP, **choice)
        assert (again.status, again.changed) == (0, 0), again.said
    assert serves(shop)
    shop.forget_quarantine()


@contextmanager
def room(shop: Stack, size: str) -> Iterator[tuple[str, ...]]:
    """So much where the server's tools run. Yields the words with which a program sees it."""
    pid = shop.host.run("docker", "inspect", "--format", "{{.State.Pid}}", shop.container).strip()
    inside = ("nsenter", "--target", pid, "--mount")
    shop.host.run(*inside, "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/var/tmp")
    try:
        yield inside
    finally:
        shop.host.run(*inside, "umount", "/var/tmp")


def test_a_dump_without_room_is_refused_before_anything_is_stopped(shop: Stack, backed_up: list[str]) -> None:
    with room(shop, "1m"):
        run = playbook(RECOVER, confirm=APP, force=True)
    assert run.status != 0
    assert "needed for a copy of the dump" in run.said and "nothing was changed yet" in run.said
    assert (shop.portrait(), half_restored(shop)) == (backed_up, False)
    assert serves(shop)


def test_a_full_disk_in_the_middle_leaves_the_live_database(shop: Stack, backed_up: list[str]) -> None:
    """Something else fills it while the dump comes. The live database stays, and the application comes back."""
    with room(shop, "2g") as inside:
        come = "for _ in $(seq 15000); do ls -d /var/tmp/*.* && break; sleep 0.02; done"
        shrink = f"{' '.join(inside)} sh -c '{come}; mount -o remount,size=1m tmpfs /var/tmp'"
        shop.host.run("sh", "-c", f"nohup {shrink} >/dev/null 2>&1 &")
        run = playbook(RECOVER, confirm=APP, force=True)
    assert run.status != 0
    assert "No space left on device" in run.said
    left_as_found(shop, backed_up, run.said)


def test_a_backup_that_does_not_restore_to_itself_is_never_swapped_in(shop: Stack, backed_up: list[str]) -> None:
    """Its checksums are right; its fingerprint says a row more than its dump has."""
    forged = shop.host.python(FORGE, folder_of(shop, "newer")).strip()
    try:
        run = playbook(RECOVER, confirm=APP, recovery_point=forged.rpartition("/")[2])
    finally:
        shop.host.run("rm", "-r", forged)
    assert run.status != 0
    assert "app.customers" in run.said and "shop is untouched" in run.said
    left_as_found(shop, backed_up, run.said)


def test_backups_are_refused_while_the_server_may_be_an_empty_one(shop: Stack, backed_up: list[str]) -> None:
    """A backup of a fresh server would become the newest good one. Then the same command as ever ends the recovery."""
    known = shop.host.lifeboat("list")[1]
    run = playbook("tests/testinfra/recover_database/interrupted.yml")
    assert run.status == 0, run.said
    quarantine = run.result("Put the data aside and start a fresh server")["quarantine"]
    assert shop.host.run("cat", f"{quarantine}/PG_VERSION").strip() == "17"
    # Nobody is let in yet: that it is empty shows in its size.
    empty = "SELECT datallowconn, pg_database_size(oid) < pg_database_size('template0') + 1000000 FROM pg_database"
    assert shop.sql(f"{empty} WHERE datname = 'shop';", database="template1") == ["f|t"]

    code, refused = shop.host.lifeboat("backup", "database")
    assert (code, refused["error"]["cause"].partition(": ")[0].rpartition(" has ")[2]) == (4, "not ended")
    assert [backup["id"] for backup in shop.host.lifeboat("list")[1]] == [backup["id"] for backup in known]

    recovery = playbook(RECOVER, confirm=APP)
    assert recovery.status == 0, recovery.said
    assert shop.portrait() == backed_up
    assert serves(shop)
    assert shop.host.lifeboat("backup", "database")[0] == 0
    shop.forget_quarantine()


def test_a_recovery_killed_in_the_middle_is_ended_by_the_next(shop: Stack, backed_up: list[str]) -> None:
    """kill -9 of the operator's side and of ours on the host, while the new database is half restored."""
    row = write_a_row(shop)
    shop.sql("DROP TABLE app.files CASCADE;")
    with subprocess.Popen(
        ["ansible-playbook", RECOVER, "-i", "molecule/inventory", "-e", f"confirm={APP}"],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, stdout=subprocess.DEVNULL,
    ) as operator:  # fmt: skip
        deadline = time.monotonic() + 120
        while not half_restored(shop) and operator.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert operator.poll() is None, "the recovery ended before it could be killed"
        holder = json.loads(shop.host.run("cat", "/run/lifeboat/lifeboat-shop.lock"))
        operator.send_signal(signal.SIGKILL)
        shop.host.run("kill", "-KILL", str(holder["pid"]))
    assert holder["purpose"] == "restore database"
    assert half_restored(shop)
    doors = "ALTER DATABASE shop ALLOW_CONNECTIONS"  # closed, so that nobody writes what would be lost
    shop.sql(f"{doors} true;", database="template1")
    assert shop.sql(f"SELECT id FROM app.items WHERE id = {row};") == [str(row)], "the live database was touched"
    shop.sql(f"{doors} false;", database="template1")

    recovery = playbook(RECOVER, confirm=APP)
    assert recovery.status == 0, recovery.said
    assert shop.portrait() == backed_up
    assert serves(shop)
    kept = phase_facts(recovery)["quarantined_database"]
    assert [database for database in shop.databases() if database not in ("postgres", "shop")] == [kept]
    shop.forget_quarantine()


def folder_of(stack: Stack, mark: str) -> str:
    """Where a backup of ours lies."""
    return stack.host.run("find", "/backup", "-type", "d", "-name", stack.marks[mark]).strip()


def half_restored(stack: Stack) -> bool:
    return any("_restore_" in name for name in stack.databases())


def left_as_found(stack: Stack, portrait: list[str], said: str) -> None:
    """The live database is the one it was, nothing half-made is next to it, the application runs, and it says so."""
    assert stack.portrait() == portrait
    assert not half_restored(stack)
    assert serves(stack)
    assert "the live database is as it was found" in said
    newest = stack.host.run("sh", "-c", "ls -t /var/lib/lifeboat/shop/evidence/*.json | head -n 1").strip()
    assert json.loads(stack.host.run("cat", newest))["verdict"] == "FAIL"


def save(host: Host, path: str, settings: object) -> None:
    host.run("sh", "-c", f"cat > {path}", stdin=json.dumps(settings))


@contextmanager
def edited(host: Host, path: str) -> Iterator[dict[str, Any]]:
    """A file's JSON, to be changed; the file is as it was afterwards."""
    text = host.run("cat", path)
    try:
        yield json.loads(text)
    finally:
        host.run("sh", "-c", f"cat > {path}", stdin=text)


# Runs on the host: a copy of a backup under a later id, consistent in itself, whose fingerprint claims a row too many.
FORGE = """
import hashlib, json, pathlib, shutil, sys
source = pathlib.Path(sys.argv[1])
copy = source.with_name(source.name[:-1] + str((int(source.name[-1]) + 1) % 10))
shutil.copytree(source, copy)
(copy / "verification.json").unlink(missing_ok=True)
facts = json.loads((copy / "fingerprint.json").read_text())
facts["tables"]["app.customers"]["rows"] += 1
data = json.dumps(facts, ensure_ascii=False).encode()
(copy / "fingerprint.json").write_bytes(data)
body = json.loads((copy / "manifest.json").read_text())
body["id"] = copy.name
for artefact in body["artefacts"]:
    if artefact["name"] == "fingerprint.json":
        artefact.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
unsealed = {key: value for key, value in body.items() if key != "seal"}
body["seal"] = hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
(copy / "manifest.json").write_bytes((json.dumps(body, indent=1, ensure_ascii=False) + "\\n").encode())
print(copy)
"""
