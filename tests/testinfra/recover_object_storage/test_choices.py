"""Which point, which prefix, which host, and what a recovery leaves behind when it cannot be done or is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest
import store
from recovery import RECOVER, forget_quarantine, has_file, leave_no_orphans, serves, write_a_file
from support import APP, ROOT, VAULT, Stack, playbook

pytestmark = pytest.mark.long


def test_confirming_another_host_changes_nothing(shop: Stack, backed_up: dict[str, Any]) -> None:
    before = shop.host.world()
    run = playbook(RECOVER, confirm="test-app2", force=True)
    assert run.status != 0
    assert "confirm=test-app2 names no host of this play" in run.said
    assert (shop.host.world(), store.portrait(shop.host)) == (before, backed_up)


def test_an_unknown_point_and_a_time_before_the_first_are_errors(shop: Stack, backed_up: dict[str, Any]) -> None:
    before = shop.host.world()
    for choice, words in (
        ({"recovery_point": "objects_backup_20200101_000000"}, "the repository has"),
        ({"recovery_point": "20200101_000000"}, "there is none of that name"),
        ({"recovery_time": "2020-02-29T00:00:00+09:00"}, "taken at or before 2020-02-28T15:00:00.000Z"),
        ({"prefix": "no/such/"}, "no object below 'no/such/'"),
    ):
        run = playbook(RECOVER, confirm=APP, force=True, **choice)
        assert run.status != 0
        assert words in run.said
    assert (shop.host.world(), store.portrait(shop.host)) == (before, backed_up)


def test_a_prefix_alone_comes_back_and_the_rest_stays(shop: Stack, backed_up: dict[str, Any]) -> None:
    """A bad client overwrote objects of two folders; one of them is asked for, by the recovery point."""
    folders = ("seed/2025/", "seed/写真/")
    for folder in folders:
        store.act(shop.host, store.OVERWRITE_PREFIX, folder)
    run = playbook(RECOVER, confirm=APP, prefix=folders[1], recovery_point=shop.marks["point"])
    assert run.status == 0, run.said
    found = store.objects_of(shop.host)
    for key, facts in backed_up["objects"].items():
        assert (found[key] == facts) is not key.startswith(folders[0])
    rest = playbook(RECOVER, confirm=APP)
    assert rest.status == 0, rest.said
    assert store.portrait(shop.host) == backed_up


def test_the_recovery_point_by_its_id_twice(shop: Stack, backed_up: dict[str, Any]) -> None:
    write_a_file(shop)
    try:
        first = playbook(RECOVER, confirm=APP, recovery_point=shop.marks["point"], exact=True)
        assert first.status == 0, first.said
        again = playbook(RECOVER, confirm=APP, recovery_point=shop.marks["point"])
        assert (again.status, again.changed) == (0, 0), again.said
        assert store.portrait(shop.host) == backed_up
    finally:
        leave_no_orphans(shop, backed_up)


def test_a_key_that_is_refused_is_not_a_lost_bucket(shop: Stack, backed_up: dict[str, Any]) -> None:
    path = "/etc/lifeboat/shop.secrets.json"
    text = shop.host.run("cat", path)
    wrong = {**json.loads(text), "objects_secret_key": "not the key"}
    shop.host.run("sh", "-c", f"cat > {path}", stdin=json.dumps(wrong))
    try:
        before = shop.host.world()
        run = playbook(RECOVER, confirm=APP)
        assert run.status != 0
        assert "Correct lifeboat_objects or lifeboat_secrets" in run.said
        assert shop.host.world() == before
    finally:
        shop.host.run("sh", "-c", f"cat > {path}", stdin=text)
    assert store.portrait(shop.host) == backed_up


def test_a_vault_that_does_not_answer_stops_it_before_anything_is_touched(
    shop: Stack, backed_up: dict[str, Any]
) -> None:
    subprocess.run(["docker", "exec", VAULT, "systemctl", "stop", "lifeboat-vault"], check=True)
    try:
        before = shop.host.world()
        run = playbook(RECOVER, confirm=APP, force=True)
        assert run.status != 0
        assert (shop.host.world(), store.portrait(shop.host)) == (before, backed_up)
    finally:
        subprocess.run(["docker", "exec", VAULT, "systemctl", "start", "lifeboat-vault"], check=True)


def test_mirrors_are_refused_while_the_bucket_may_be_an_empty_one(shop: Stack, backed_up: dict[str, Any]) -> None:
    """A mirror of a fresh server would become the newest good backup. The same command as ever ends the recovery."""
    run = playbook("tests/testinfra/recover_object_storage/interrupted.yml")
    assert run.status == 0, run.said
    code, refused = shop.host.lifeboat("backup", "objects")
    assert (code, refused["error"]["cause"].partition(": ")[0].rpartition(" has ")[2]) == (4, "not ended")
    recovery = playbook(RECOVER, confirm=APP)
    assert recovery.status == 0, recovery.said
    assert store.portrait(shop.host) == backed_up
    assert serves(shop)
    forget_quarantine(shop)


def test_a_recovery_killed_in_the_middle_is_ended_by_the_next(shop: Stack, backed_up: dict[str, Any]) -> None:
    """kill -9 of the operator's side and of ours on the host, while the objects are half copied."""
    store.act(shop.host, store.MANY, "3000")
    code, large = shop.host.lifeboat("backup")
    assert code == 0, large
    whole = store.portrait(shop.host)
    store.act(shop.host, store.DELETE_BUCKET)
    with subprocess.Popen(
        ["ansible-playbook", RECOVER, "-i", "molecule/inventory", "-e", f"confirm={APP}"],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, stdout=subprocess.DEVNULL,
    ) as operator:  # fmt: skip
        holder = store.act(shop.host, store.FREEZE, "2900")
        assert holder, "the recovery ended before it could be killed"
        operator.send_signal(signal.SIGKILL)
        shop.host.run("kill", "-KILL", str(holder["pid"]))
    assert holder["purpose"] == "restore objects"
    recovery = playbook(RECOVER, confirm=APP)
    assert recovery.status == 0, recovery.said
    assert store.portrait(shop.host) == whole
    copied = recovery.result("restore | Copy back from the vault, prove (follow it on the host with journalctl -f)")
    assert copied["copied"]["copied"] < 3020, "what was there already is not copied again"
    assert serves(shop)
    store.act(shop.host, store.DELETE_PREFIX, "many/")
    assert shop.host.lifeboat("backup", "--override", "3000")[0] == 0
    # Beside a backup of 3,000 objects more, which of the two is right would have to be said from now on.
    shop.host.run("rm", "-r", f"/backup/objects/{large['components']['objects']}")


def test_what_expired_in_the_vault_is_said_first_and_partial_brings_the_rest(
    shop: Stack, backed_up: dict[str, Any]
) -> None:
    """What the vault lost is gone for good. The rows that name it go, and the next backup is whole again."""
    file = write_a_file(shop)
    assert shop.host.lifeboat("backup")[0] == 0
    store.act(shop.host, store.EXPIRE, file["key"])
    store.act(shop.host, store.DELETE_PREFIX, "files/")
    before = shop.host.world()
    refused = playbook(RECOVER, confirm=APP)
    assert refused.status != 0
    assert "the vault no longer has 1" in refused.said and file["key"] in refused.said
    assert shop.host.world() == before
    run = playbook(RECOVER, confirm=APP, partial=True)
    assert run.status != 0, "not all of it came back, and that is no PASS"
    checks = {check["name"]: check for check in run.result("record | Record the evidence")["record"]["checks"]}
    assert checks["held by the vault"]["result"] == "FAIL"
    assert file["key"] in checks["held by the vault"]["detail"]
    assert not has_file(shop, file)
    assert serves(shop)
    leave_no_orphans(shop, backed_up)
    assert store.portrait(shop.host) == backed_up
    assert shop.host.lifeboat("backup")[0] == 0


def test_no_secret_is_told(shop: Stack) -> None:
    """The keys of both endpoints are in no log, no evidence and no journal."""
    secrets = json.loads(shop.host.run("cat", "/etc/lifeboat/shop.secrets.json"))
    told = shop.host.run(
        "sh", "-c", "cat /var/lib/lifeboat/shop/evidence/* /var/log/lifeboat/* 2>/dev/null; journalctl -q --no-pager"
    )
    assert [name for name, value in secrets.items() if name.endswith("secret_key") and value in told] == []
