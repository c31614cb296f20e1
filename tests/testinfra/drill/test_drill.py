"""Every disaster, broken for real and recovered; and each once more with a recovery that does not do its work.

The shop keeps uploads, SQLite, MariaDB and Valkey here, and the writer writes into all of them.

A drill that has never been seen to fail proves nothing: test_a_recovery_without_its_work_turns_the_drill_red.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import other_stores
import pytest
import store
from support import APP, ROOT, SPARE, Host, Run, Stack, job, playbook

CONFIGURATION = "/etc/lifeboat/shop.json"
DATA = ("database", "object_storage", "files", "dumps")
ON_THE_HOST = (*DATA, "backend", "frontend")
QUIET = {
    f"{component}_backup_enabled": False for component in ("database", "object_storage", "files", "dumps", "config")
}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


def drill(report: Path, scenario: str, **extra: object) -> Run:
    return playbook(
        "lifeboat.dr.drill", scenario=scenario, report_directory=str(report), seconds=1800, **QUIET, **extra
    )


def row(run: Run) -> dict[str, str]:
    found: dict[str, str] = run.result("end | Compare it with the ledger, and record")["rows"][-1]
    return found


def record(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.result("end | Compare it with the ledger, and record")["record"]
    return found


def test_a_plan_breaks_nothing(shop: Stack, report: Path) -> None:
    shop.wait_until_well()
    before = shop.host.world()
    run = job("lifeboat.dr.drill", settings=QUIET)
    assert (run.status, run.changed) == (0, 0), run.said
    run = job("lifeboat.dr.drill", settings=QUIET, confirm="elsewhere1")
    assert run.status != 0
    assert "confirm=elsewhere1 names elsewhere1, which this play is not about" in run.said
    run = drill(report, "site", confirm=SPARE)  # only half of what would be touched
    assert (run.status, run.changed) == (0, 0), run.said
    assert f"-e confirm={APP},{SPARE}" in run.said
    assert shop.host.world() == before


@pytest.fixture(scope="module")
def backed_up(shop: Stack) -> None:
    assert playbook("lifeboat.dr.backup").status == 0


def test_a_host_that_is_deployed_as_production_is_refused_whatever_the_inventory_says(
    app1: Host, shop: Stack, report: Path, backed_up: None
) -> None:
    deployed = json.loads(app1.run("cat", CONFIGURATION))
    app1.run("sh", "-c", f"cat > {CONFIGURATION}", stdin=json.dumps({**deployed, "environment": "production"}))
    try:
        run = drill(report, "database", confirm=APP)
        beside = [drill(report, scenario, mode="beside") for scenario in DATA]
    finally:
        app1.run("sh", "-c", f"cat > {CONFIGURATION}", stdin=json.dumps(deployed))
    assert run.status != 0
    assert "this host is deployed as production, not as drill; nothing was touched" in run.said
    assert row(run)["verdict"] == "ABORTED"
    assert not shop.ill()
    for safe in beside:  # what breaks nothing may be done there
        assert safe.status == 0, safe.said
        made = safe.result("beside | Restore it next to production, and see that production did not notice")["record"]
        assert (made["kind"], made["verdict"]) == ("drill", "PASS")
        assert "production untouched" in [check["name"] for check in made["checks"]]


def test_a_stack_that_is_not_well_is_not_broken(app1: Host, shop: Stack, report: Path) -> None:
    shop.compose("stop", "frontend")
    try:
        run = drill(report, "backend", confirm=APP)
    finally:
        shop.compose("start", "frontend")
    assert run.status != 0
    assert "Recover what is broken first" in run.said
    assert row(run)["verdict"] == "ABORTED"
    shop.wait_until_well()


@contextmanager
def hasty(app1: Host) -> Iterator[None]:
    """An application that is never well again is waited for a few seconds only, not for three minutes each time."""
    deployed = app1.run("cat", CONFIGURATION)
    settings = json.loads(deployed)
    settings["application"]["timeout"] = 12
    app1.run("sh", "-c", f"cat > {CONFIGURATION}", stdin=json.dumps(settings))
    try:
        yield
    finally:
        app1.run("sh", "-c", f"cat > {CONFIGURATION}", stdin=deployed)


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, but each recovery without the step that brings the data back."""
    copy = tmp_path_factory.mktemp("sabotaged")
    subprocess.run(
        [sys.executable, str(ROOT / "tests/lab/sabotage.py"), str(copy), *ON_THE_HOST, "site"], check=True, cwd=ROOT
    )
    return copy


@pytest.mark.long
@pytest.mark.parametrize("scenario", ON_THE_HOST)
def test_a_recovery_without_its_work_turns_the_drill_red(
    shop: Stack, report: Path, sabotaged: Path, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    with monkeypatch.context() as patched, hasty(shop.host):
        patched.setenv("ANSIBLE_COLLECTIONS_PATH", f"{sabotaged}:/usr/share/ansible/collections")
        run = drill(report, scenario, confirm=APP)
    assert run.status != 0
    assert row(run)["verdict"] == "FAIL", run.said
    assert f"{scenario} did not pass" in run.said
    mended = playbook(f"lifeboat.dr.recover_{scenario}", confirm=APP)
    assert mended.status == 0, mended.said
    shop.wait_until_well()
    # A drill that failed leaves its writes, as evidence. Rows of them name objects that are gone for good.
    ledger = "/var/lib/lifeboat/shop/drill/ledger.jsonl"
    code, removed = shop.host.lifeboat("transaction", "--stack", "shop", "--remove", ledger)
    assert code == 0
    assert removed["writes"] > 0
    forget_lost_uploads(shop)
    # On a slow machine they are more than change_limit allows of so few objects: an operator names their number.
    code, taken = shop.host.lifeboat("backup", "--wait", "300", "--override", str(max(removed["removed"], 1)))
    assert code == 0, taken


def forget_lost_uploads(shop: Stack) -> None:
    """A write that was broken off between its row and its answer is in no ledger, and its file is gone for good."""
    volume = shop.data_directory("shop_uploads")
    there = set(shop.host.run("find", volume, "-type", "f", "-printf", "%P\\n").splitlines())
    lost = [path for path in shop.sql("SELECT path FROM app.uploads;") if path not in there]
    for path in lost:
        shop.sql(f"DELETE FROM app.uploads WHERE path = '{path}';")


# The sabotaged drills above have broken it in the first way of each scenario; here it is another, where there is time.
@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        ("database", "table_dropped"),
        pytest.param("object_storage", "bucket_deleted", marks=pytest.mark.long),
        ("files", "files_encrypted"),
        pytest.param("files", "volume_removed", marks=pytest.mark.long),
        pytest.param("files", "files_deleted", marks=pytest.mark.long),
        pytest.param("files", "files_altered", marks=pytest.mark.long),
        ("dumps", "volume_removed"),
        pytest.param("dumps", "data_directory_emptied", marks=pytest.mark.long),
        pytest.param("dumps", "killed", marks=pytest.mark.long),
        pytest.param("backend", "bad_image", marks=pytest.mark.long),
        pytest.param("frontend", "build_broken", marks=pytest.mark.long),
    ],
)
def test_a_drill_passes(shop: Stack, report: Path, scenario: str, fault: str) -> None:
    contents, others = content(shop), other_stores.portrait(shop.host)
    quarantine = [volume for volume in shop.host.volumes() if "quarantine" in volume]
    databases = shop.sql("SELECT datname FROM pg_database ORDER BY 1;")
    settings = {**QUIET, "report_directory": str(report)}
    run = job("lifeboat.dr.drill", settings=settings, scenario=scenario, confirm=APP, fault=fault)
    assert run.status == 0, run.said
    made = record(run)
    assert (made["kind"], made["scenario"], made["verdict"]) == ("drill", scenario, "PASS")
    assert made["drill"]["proof"] and made["drill"]["steady_state"]
    assert made["drill"]["ledger"]["acknowledged"] > 10
    assert counted(shop.host) == other_stores.KINDS, "the ledger counts the writes to every store"
    if scenario in ("backend", "frontend"):
        assert made["drill"]["ledger"]["lost"] == 0
    assert made["rto"]["seconds"] < made["target_seconds"]
    assert not shop.ill()
    assert [volume for volume in shop.host.volumes() if "quarantine" in volume] == quarantine, (
        "it cleans up after itself"
    )
    assert shop.sql("SELECT datname FROM pg_database ORDER BY 1;") == databases
    if fault == "bad_image":  # the scenario recover_backend leaves this fault to us
        assert "crashes in a loop" in run.said
        recovered = run.result(
            "restore | Take the steps, each proved before the next (follow it on the host with journalctl -f)"
        )
        assert (recovered["mode"], [taken["step"] for taken in recovered["tried"]]) == ("image", ["image"])
        assert {check["name"]: check["result"] for check in made["checks"]}["application"] == "PASS"
        assert content(shop) == contents
    if scenario in ("files", "dumps"):
        assert other_stores.portrait(shop.host) == others
    if scenario == "files":  # its backup has what the writer wrote before the point, and the drill has removed
        code, taken = shop.host.lifeboat("backup", "--stack", "shop", "--wait", "300")
        assert code == 0, taken
    again = playbook(f"lifeboat.dr.recover_{scenario}", confirm=APP)
    assert (again.status, again.changed) == (0, 0), again.said


def counted(host: Host) -> set[str]:
    """Which of the transactions the ledger has acknowledged writes of."""
    lines = [json.loads(line) for line in host.run("cat", other_stores.LEDGER).splitlines()]
    return {line["name"] for line in lines if not line.get("error")}


def content(shop: Stack) -> dict[str, Any]:
    """All that the stack holds: rows, objects, files, volumes. The drill's own writes have moved the sequences."""
    return {
        "rows": [line for line in shop.portrait() if not line.startswith("sequence|")],
        "objects": store.portrait(shop.host),
        "files": shop.files(),
        "volumes": shop.host.volumes(),
    }


def test_a_lot_is_drawn_again_by_its_seed(report: Path) -> None:
    plans = [drill(report, "database", fault="random", seed=seed).said for seed in ("7", "7")]
    assert plans[0] == plans[1]


@pytest.mark.long
def test_the_loss_of_the_whole_site(shop: Stack, report: Path) -> None:
    """The machine is destroyed, and with it its disk."""
    passwords = "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin AND NOT rolsuper ORDER BY 1;"
    before, others = shop.sql(passwords), other_stores.portrait(shop.host)
    run = drill(report, "site", confirm=f"{APP},{SPARE}")
    assert run.status == 0, run.said
    made = record(run)
    assert (made["kind"], made["verdict"]) == ("drill", "PASS")
    assert f"{APP} does not answer any more" in made["drill"]["proof"]
    there = subprocess.run(["docker", "inspect", APP], capture_output=True, check=False)
    assert there.returncode != 0
    recovered = Stack(
        Host(SPARE), directory="/srv/shop", project="shop", service="db", user="shop", database="shop",
        volume="shop_pgdata",
    )  # fmt: skip
    assert recovered.sql(passwords) == before
    assert counted(recovered.host) == other_stores.KINDS
    # What was uploaded between the rows' instant and that of the files has no row, and is there besides.
    after = {*other_stores.portrait(recovered.host)}
    assert [line for line in others if line not in after] == []
    pages = [path.name for path in report.rglob("*.html")]
    assert any("drill_site" in page for page in pages), pages
