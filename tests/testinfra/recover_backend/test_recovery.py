"""Each way a backend fails, done for real to a running stack, and recovered with one command.

The order of a case: the fault, and that it took; the recovery, its cause and its step; the same data, by psql; the same
files; and a second recovery, which has nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from faults import FAULTS, Fault, break_the_database, kill, shadow_the_compose_file, shell, take_the_port
from recovery import RECOVER, restored, serves
from support import APP, IDENTITY, Stack, another_host_is_refused, cases, job, playbook

# A container and an engine that stand still; what redeploys is below, with the sealed environment.
OFTEN = [fault for fault in FAULTS if fault.step in ("restart", "engine")]


@pytest.mark.parametrize("fault", cases(FAULTS, OFTEN))
def test_fault_is_recovered(shop: Stack, backed_up: Sequence[str], fault: Fault) -> None:
    volumes = shop.host.volumes()
    fault.inject(shop)
    assert not serves(shop), "the fault did not take"
    if fault is FAULTS[0]:
        the_plan_alone_changes_nothing(shop, fault)
    try:
        recovery = job(RECOVER, confirm=APP, reason=f"test: {fault.name}", identity_file=str(IDENTITY))
        assert recovery.status == 0, recovery.said
        assert fault.cause in recovery.said
        done = restored(recovery)
        assert done["mode"] == fault.step
        assert [taken["step"] for taken in done["tried"]] == list(fault.tried or (fault.step,))
        record = recovery.result("record | Record the evidence")["record"]
        assert (record["verdict"], record["reason"]) == ("PASS", f"test: {fault.name}")
        assert {check["name"]: check["result"] for check in record["checks"]}["application"] == "PASS"
        assert serves(shop)
        assert shop.portrait() == backed_up
        assert shop.files() == shop.marks["files"], "the files are what they were"
        assert shop.host.volumes() == volumes

        again = playbook(RECOVER, confirm=APP)
        assert (again.status, again.changed) == (0, 0), again.said
        assert "nothing to do" in again.said
    finally:
        fault.undo(shop)


def the_plan_alone_changes_nothing(shop: Stack, fault: Fault) -> None:
    before = shop.host.world()
    for plan in (job(RECOVER), playbook(RECOVER, check=True)):
        assert plan.status == 0, plan.said
        assert fault.cause in plan.said
    assert f"run the same command again with -e confirm={APP}" in plan.said
    another_host_is_refused(RECOVER)
    assert shop.host.world() == before


@pytest.fixture
def thief(shop: Stack) -> Iterator[None]:
    take_the_port(shop)
    yield
    shop.host.probe("systemctl", "stop", "thief.service")


@pytest.mark.long
def test_a_port_that_another_process_holds_is_named_and_not_freed(
    shop: Stack, backed_up: Sequence[str], thief: None
) -> None:
    run = playbook(RECOVER, confirm=APP)
    assert run.status != 0
    assert "port 8000/tcp, which backend needs, is held by process" in run.said
    assert "python3 -m http.server 8000" in run.said
    assert "systemctl stop thief.service" in run.said
    assert run.result("record | Record the evidence")["record"]["verdict"] == "ABORTED"
    assert shop.host.run("systemctl", "is-active", "thief.service").strip() == "active", "it is not killed"
    shop.host.run("systemctl", "stop", "thief.service")
    recovery = playbook(RECOVER, confirm=APP)
    assert (recovery.status, restored(recovery)["mode"]) == (0, "restart"), recovery.said
    assert shop.portrait() == backed_up


def test_a_broken_database_underneath_is_named_and_not_looped_over(shop: Stack, backed_up: Sequence[str]) -> None:
    inside = break_the_database(shop)
    try:
        run = playbook(RECOVER, confirm=APP)
        assert run.status != 0
        assert "the database underneath is broken: db is " in run.said
        assert f"ansible-playbook lifeboat.dr.recover_database -e confirm={APP}" in run.said
        assert run.result("record | Record the evidence")["record"]["verdict"] == "ABORTED"
    finally:
        shop.host.probe("docker", "stop", "shop-db-1")
        shell(shop, 'mv "$0/pg_control.aside" "$0/global/pg_control"', inside)
    recovery = playbook(RECOVER, confirm=APP)
    assert (recovery.status, restored(recovery)["mode"]) == (0, "restart"), recovery.said
    assert shop.portrait() == backed_up


def test_a_sealed_environment_blocks_without_the_key(shop: Stack, backed_up: Sequence[str]) -> None:
    text = shop.host.run("cat", "/srv/shop/.env")
    shell(shop, "sed -i '/^SHOP_APP_PASSWORD=/d' /srv/shop/.env; docker rm --force shop-backend-1")
    run = playbook(RECOVER, confirm=APP, identity_file="")
    assert run.status != 0
    assert "-e identity_file=<the age identity's file>" in run.said
    recovery = playbook(RECOVER, confirm=APP, identity_file=str(IDENTITY))
    assert recovery.status == 0, recovery.said
    assert shop.host.run("cat", "/srv/shop/.env") == text


@pytest.mark.long
def test_files_that_the_backup_does_not_know_are_kept(shop: Stack, backed_up: Sequence[str]) -> None:
    shell(shop, "echo mine > /srv/shop/notes.txt; echo '# uncommitted' >> /srv/shop/compose.yml")
    shadow_the_compose_file(shop)
    recovery = playbook(RECOVER, confirm=APP, method="redeploy", identity_file=str(IDENTITY))
    assert recovery.status == 0, recovery.said
    assert shop.host.run("cat", "/srv/shop/notes.txt") == "mine\n"
    kept = restored(recovery)["quarantine"].removeprefix("files in ")
    assert "# uncommitted" in shop.host.run("cat", f"{kept}/srv/shop/compose.yml")
    assert "other" in shop.host.run("cat", f"{kept}/srv/shop/compose.yaml")
    shell(shop, "rm /srv/shop/notes.txt")
    assert shop.files() == shop.marks["files"]


@pytest.mark.long
def test_what_a_container_wrote_into_its_own_layer_is_kept(shop: Stack, backed_up: Sequence[str]) -> None:
    shop.host.run("docker", "exec", "--user", "root", "shop-backend-1", "sh", "-c", "echo mine > /app/upload.txt")
    recovery = playbook(RECOVER, confirm=APP, method="recreate", force=True)
    assert recovery.status == 0, recovery.said
    name = restored(recovery)["quarantine"].removeprefix("image ")
    assert shop.host.run("docker", "run", "--rm", name, "cat", "/app/upload.txt") == "mine\n"
    shop.host.run("docker", "image", "rm", "--force", name)
    assert shop.portrait() == backed_up


def test_no_secret_is_told(shop: Stack, backed_up: Sequence[str]) -> None:
    """The application prints its own password; neither the plan nor the evidence nor the journal does."""
    password = shell(shop, "sed -n 's/^SHOP_APP_PASSWORD=//p' /srv/shop/.env").strip()
    loud = f"echo connecting with {password} > /proc/1/fd/1"
    shop.host.run("docker", "exec", "shop-backend-1", "sh", "-c", loud)
    kill(shop)
    assert password in shop.host.run("docker", "logs", "shop-backend-1")
    recovery = playbook(RECOVER, confirm=APP, identity_file=str(IDENTITY))
    assert recovery.status == 0, recovery.said
    told = shop.host.run("sh", "-c", "cat /var/lib/lifeboat/shop/evidence/*; journalctl -q --no-pager")
    assert password not in told + recovery.said + json.dumps(dict(recovery.results), default=str)
    assert IDENTITY.read_text().splitlines()[-1] not in told + recovery.said
    assert "connecting with ********" in recovery.said
