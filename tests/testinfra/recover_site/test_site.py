"""An empty machine becomes the running stack, from the vault and the escrowed key alone.

In this order: what is refused while the site lives; the machine goes, with its volumes; what is refused before anything
is built; the recovery, in make release after one that is killed half-way and one that fails; the proof by psql, boto3
and the writer's ledger; a second run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import store
from conftest import PASSWORDS, Site  # type: ignore[attr-defined]
from ledger import carry, left
from support import IDENTITY, ROOT, SPARE, VAULT, Host, Run, Stack, identity, job, playbook

RECOVER = "lifeboat.dr.recover_site"
INVENTORY = "molecule/inventory"
HOOK = str(ROOT / "tests/testinfra/recover_site/cutover.yml")
URL = "http://127.0.0.1:8000"
GROWS = re.compile(
    r"/backup/(base|changes|wal)/|/var/lib/lifeboat/shop/(base-started|(changes|endpoint|wal|unanswered)[a-z-]*\.json)$"
)
# The schedules stay out, so that no job of theirs runs into the tests.
QUIET = {"database_backup_enabled": False, "object_storage_backup_enabled": False, "config_backup_enabled": False}


def recover(confirm: str = "", target: str = SPARE, **extra: object) -> Run:
    return playbook(RECOVER, target=target, **({"confirm": confirm} if confirm else {}), **QUIET, **extra)


def recover_by_a_job(confirm: str = "", **answers: object) -> Run:
    return job(RECOVER, settings=QUIET, target=SPARE, confirm=confirm, **answers)


def standing(host: Host) -> dict[str, Any]:
    """All but what continuous protection writes by itself."""
    world = host.world()
    return {**world, "files": [row for row in world["files"] if not GROWS.search(row)]}


def unlike_by_replay(portrait: list[str]) -> list[str]:
    """Without what no replay brings back as it was: the rows of unlogged tables, and where in its reserve a sequence
    stood."""
    return [row for row in portrait if not row.startswith(("table app.sessions|", "sequence|"))]


def bare(host: Host) -> str:
    """What a plan must leave as it is: the packages, and all that a stack or Lifeboat would put there."""
    return host.run(
        "sh",
        "-c",
        "dpkg-query -W -f '${Package} ${Status}\n'; ls -d /srv/* /etc/lifeboat /var/lib/lifeboat /backup 2>&1; true",
    )


def test_a_living_site_is_not_recovered_elsewhere(spare1: Host, site: Site) -> None:
    before = bare(spare1)
    run = recover(confirm=SPARE)
    assert run.status != 0
    assert "the site still lives on" in run.said and "-e rehearsal=true" in run.said
    assert bare(spare1) == before


def test_a_living_site_is_no_target(shop: Stack, site: Site) -> None:
    before = standing(shop.host)
    run = recover(confirm=shop.host.name, target=shop.host.name)
    assert run.status != 0
    assert "the stack runs on this machine" in run.said
    assert standing(shop.host) == before


def test_confirming_another_machine_than_the_target_is_refused(spare1: Host, shop: Stack, site: Site) -> None:
    run = recover_by_a_job(confirm=shop.host.name)
    assert run.status != 0
    assert "names no host of this play" in run.said


def test_the_plan_shows_every_step_and_changes_nothing(spare1: Host, burned: Site) -> None:
    before = bare(spare1)
    plan = recover_by_a_job()
    assert (plan.status, plan.changed) == (0, 0), plan.said
    for words in (
        "lost, it cannot be reached", "which does not prove that it is off", "python3-boto3 and age are not on this",
        "scope:", "verify the backups:", "build: install Docker Engine", "configure:", "images:", "database:",
        "objects:", "verify:", "cutover", "backups:", "record:", f"-e confirm={SPARE}",
    ):  # fmt: skip
        assert words in plan.said, words
    assert bare(spare1) == before


def test_another_key_is_refused_before_anything_is_built(spare1: Host, burned: Site, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    subprocess.run(["docker", "exec", SPARE, "apt-get", "install", "-yq", "age"], check=True, capture_output=True)
    other.write_text(spare1.run("age-keygen"))
    run = recover(confirm=SPARE, identity_file=str(other))
    assert run.status != 0
    assert "no identity matched any of the recipients" in run.said
    assert "docker.io install ok" not in bare(spare1)
    assert "/srv/shop" not in bare(spare1)


def test_a_damaged_recovery_point_is_refused_before_anything_is_built(spare1: Host, burned: Site) -> None:
    damage(burned.older)
    run = recover(confirm=SPARE, recovery_point=burned.older)
    assert run.status != 0
    assert "has another SHA-256 than when it was written. Nothing was built" in run.said
    assert "docker.io install ok" not in bare(spare1)


def test_a_job_opens_the_point_with_the_escrowed_key(spare1: Host, burned: Site) -> None:
    """On another machine than the stack's, with the key as a credential brings it."""
    run = job("lifeboat.dr.escrow", target=SPARE, identity_file=str(IDENTITY))
    assert run.status == 0, run.said
    assert "FAIL" not in run.said


def damage(point: str) -> None:
    """Some bytes of the globals of that point's dump in the vault, by the vault's own curl. What was there goes with
    all its versions, for a recovery would read those."""
    vault, there = Host(VAULT), "/var/tmp/damaged"

    def curl(name: str, *words: str, bucket: str = "shop-repository/shop/") -> str:
        url = f"http://127.0.0.1:8333/{bucket}{name}"
        return vault.run("curl", "--config", "/etc/lifeboat-vault/curl", "--silent", "--fail", *words, url)

    backup = json.loads(curl(f"recovery-points/{point}.json"))["components"]["database"]["id"]
    curl(f"postgresql/{backup}/globals.sql.gz", "--output", there)
    vault.run("dd", f"of={there}", "bs=1", "seek=100", "conv=notrunc", "status=none", stdin="not what I wrote")
    listed = curl(f"?prefix=shop/postgresql/{backup}/globals.sql.gz&versions=", bucket="shop-repository")
    for version in re.findall(r"<VersionId>([^<]+)</VersionId>", listed):
        curl(f"postgresql/{backup}/globals.sql.gz?versionId={version}", "--request", "DELETE")
    curl(f"postgresql/{backup}/globals.sql.gz", "--request", "PUT", "--data-binary", f"@{there}")


@pytest.fixture(scope="module")
def failed(spare1: Host, burned: Site) -> Run:
    """Killed when the database is being restored, both sides of it; then once more, with a hook that fails."""
    with subprocess.Popen(
        ["ansible-playbook", RECOVER, "-i", INVENTORY, "-e", json.dumps({"target": SPARE, "confirm": SPARE})],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, stdout=subprocess.DEVNULL,
    ) as operator:  # fmt: skip
        deadline = time.monotonic() + 900
        holder: dict[str, Any] = {}
        while holder.get("purpose") != "restore database" and operator.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            holder = json.loads(spare1.probe("cat", "/run/lifeboat/lifeboat-shop.lock").stdout or "{}")
        assert operator.poll() is None, "the recovery ended before it could be killed"
        operator.send_signal(signal.SIGKILL)
        spare1.probe("kill", "-KILL", str(holder.get("pid")))
    assert holder.get("purpose") == "restore database"
    return recover(confirm=SPARE, lifeboat_site_cutover=HOOK, hook_fails=True)


@pytest.fixture(scope="module")
def run(spare1: Host, burned: Site) -> Run:
    """As a job, with the key as a credential brings it. Where `failed` was asked for, it ends what that one left."""
    settings = {**QUIET, "lifeboat_site_cutover": HOOK}
    return job(
        RECOVER, settings=settings, target=SPARE, confirm=SPARE, reason="test: the machine burned",
        identity_file=str(IDENTITY),
    )  # fmt: skip


@pytest.mark.long
def test_a_failure_says_the_state_and_the_next_command(failed: Run, burned: Site) -> None:
    assert failed.status != 0
    assert "has not ended; this goes on from where it stopped" in failed.said, "it was killed before"
    assert "the load balancer does not answer" in failed.said
    assert "state: the site is recovered, checked and runs here; your hook failed" in failed.said
    assert f"it continues with {burned.point} from the phase cutover" in failed.said
    record = failed.result("record | Record the evidence")["record"]
    assert (record["verdict"], record["phases"][-1]["name"]) == ("FAIL", "cutover")


@pytest.mark.long
def test_a_killed_and_a_failed_recovery_are_ended_by_the_next_with_the_same_point(failed: Run, run: Run) -> None:
    assert "done by an earlier run: " in run.said
    assert not [task for task in run.changed_tasks if "database | Restore" in task or "objects | Copy" in task]
    names = [phase["name"] for phase in run.result("record | Record the evidence")["record"]["phases"]]
    assert names[:2] == ["assess", "build"] and names.count("build") == 3, "the clock runs from the first run"


def test_the_recovery_passes_every_check_and_is_recorded(run: Run, burned: Site) -> None:
    assert run.status == 0, run.said
    record = run.result("record | Record the evidence")["record"]
    assert (record["verdict"], record["backup"]["id"], record["reason"]) == (
        "PASS",
        burned.point,
        "test: the machine burned",
    )
    checks = {check["name"]: check["result"] for check in record["checks"]}
    assert {
        "replay",
        "tables",
        "objects",
        "bytes",
        "rows without objects",
        "files",
        "image db",
        "first recovery point",
    } <= set(checks)
    assert set(checks.values()) == {"PASS"}


def test_it_comes_back_to_the_last_write_that_was_received(run: Run, burned: Site) -> None:
    """By the base and the WAL of the vault, and the changes of objects, which reach beyond the point."""
    assert f"to an instant behind the recovery point {burned.point}" in run.said
    assert "rows: latest: all that was committed before" in run.said
    record = run.result("record | Record the evidence")["record"]
    assert record["backup"]["taken_at"] > burned.taken_at


def test_rows_passwords_files_and_secrets_are_those_of_the_last_write(run: Run, recovered: Stack, burned: Site) -> None:
    assert unlike_by_replay(recovered.portrait()) == unlike_by_replay(burned.rows)
    assert recovered.sql(PASSWORDS) == burned.passwords
    assert store.portrait(recovered.host) == burned.objects
    assert recovered.host.run("cat", "/srv/shop/.env") == burned.env
    assert recovered.host.run("stat", "-c", "%a", "/srv/shop/.env").strip() == "600"
    assert not recovered.ill()


def test_every_acknowledged_write_is_there_those_behind_the_point_too(run: Run, recovered: Stack, burned: Site) -> None:
    carry(burned.ledger, recovered.host)
    found = left(recovered.host, burned.lost_at)
    assert found["before"]["acknowledged"] > 50
    assert (found["before"]["lost"], found["rows_without_bytes"]) == (0, 0)


def test_the_application_takes_writes_and_the_new_machine_is_protected(
    run: Run, recovered: Stack, burned: Site
) -> None:
    status, file = recovered.host.http("PUT", f"{URL}/files/later.json", {"written": "on the new machine"})
    assert status == 201, file
    points = recovered.host.lifeboat("list", "--component", "point")[1]
    assert [point["id"] for point in points if point["good"]][-2] == burned.point
    assert points[-1]["id"] > burned.point
    assert points[-1]["consistency"] == "snapshot"


def test_the_users_are_sent_here_after_every_check_passed(run: Run, spare1: Host) -> None:
    assert spare1.run("cat", "/var/tmp/cutover") == f"PASS on {SPARE}\n"
    names = [phase["name"] for phase in run.result("record | Record the evidence")["record"]["phases"]]
    assert names.index("verify") < names.index("cutover") < names.index("backups")


def test_a_second_run_changes_nothing(run: Run, spare1: Host, burned: Site) -> None:
    before = standing(spare1)
    again = recover(confirm=SPARE)
    assert (again.status, again.changed) == (0, 0), again.said
    assert f"nothing to do: the site was recovered to {burned.point}" in again.said
    assert standing(spare1) == before


def test_the_key_is_nowhere_on_the_machine(run: Run, spare1: Host) -> None:
    """The escrowed one. The machine's own, with which it verifies its backups, is where only root reads it."""
    found = spare1.run(
        "sh", "-c", "grep -rls AGE-SECRET-KEY /etc /srv /var/lib/lifeboat /var/log /tmp /root /backup 2>/dev/null;"
        " journalctl -q --no-pager | grep -c AGE-SECRET-KEY; true",
    )  # fmt: skip
    (own, seen) = found.split()
    assert (own.rpartition("/")[0], seen) == ("/var/lib/lifeboat/shop/keys", "0")
    assert spare1.run("stat", "-c", "%a %U", own).strip() == "600 root"
    escrowed = identity().splitlines()[-1]
    assert escrowed.startswith("AGE-SECRET-KEY-1") and escrowed not in spare1.run("cat", own)
