"""`make demo` and `make drill`: one line a step; what Ansible says is in a log, whose end is shown after a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = """#!/bin/sh
echo "TASK [something]"; echo "ran $*"
case "$*" in *dr.drill*) cat <<'END'
    "msg": "DROP TABLE app.items by transaction 7 at 06:00: lifeboat recover database --before 0/1"
        "SCENARIO  FAULT",
        "database  corrupted  36 s  PASS",
        "report: /r.html"
END
esac
case "$*" in *"$FAILS"*) echo "fatal: [app1]: the disk is full"; exit 2;; esac
echo "app1 : ok=1 changed=${CHANGED:-0}"
[ -z "$CHANGED" ] || seq 20000 # more than a pipe holds
echo end
"""


def run(tmp_path: Path, script: str, **env: str) -> tuple[int, list[str], str]:
    """(exit code, what was shown, the log) of a script of the lab with a stand-in of ansible-playbook."""
    program = tmp_path / "ansible-playbook"
    program.write_text(ANSIBLE)
    program.chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": "nothing fails", "TERM": "dumb",
        "LIFEBOAT_LAB_LOG": str(log), "LIFEBOAT_LAB_BEGAN": "0", "LIFEBOAT_LAB_STANDING": str(tmp_path / "standing"),
        **env,
    }  # fmt: skip
    name, *words = script.split()
    argv = [str(ROOT / "tests/lab" / name), *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, (done.stdout + done.stderr).splitlines(), log.read_text()


@pytest.mark.slow
def test_a_demo_is_one_line_a_step(tmp_path: Path) -> None:
    code, shown, log = run(tmp_path, "demo.sh")
    assert code == 0, shown
    steps = [line for line in shown if line.startswith("==> [")]
    results = [line for line in shown if line not in steps]
    assert len(steps) == 22
    row = "    database  corrupted  36 s  PASS"
    lost = "    DROP TABLE app.items by transaction 7 at 06:00: lifeboat recover database --before 0/1"
    each = [lost, "    SCENARIO  FAULT", row, "    report: /r.html"]
    assert results == [*each * 5, "    SCENARIO  FAULT", *[row] * 5], (
        "the last table has every drill's row, and one head"
    )
    assert "TASK [something]" in log and "ran -i inventories/lab lifeboat.dr.escrow" in log


def test_the_rows_of_several_drills_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(
        "    SCENARIO  FAULT           RTO\n    files     files_deleted   9 s\n"
        "    SCENARIO        FAULT   RTO\n    object_storage  killed  120 s\n"
    )
    script = f"LIFEBOAT_LAB_LOG=/dev/null; . {ROOT}/tests/lab/progress.sh; table rows"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "    SCENARIO        FAULT          RTO",
        "    files           files_deleted  9 s",
        "    object_storage  killed         120 s",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "changed", "why", "seen"),
    [
        ("lifeboat.dr.drill", "", "exited 2", "the disk is full"),
        ("nothing fails", "3", "the second recovery changed something", "end"),
    ],
)
def test_a_failure_shows_the_end_of_the_log(tmp_path: Path, fails: str, changed: str, why: str, seen: str) -> None:
    code, shown, _ = run(tmp_path, "drill.sh", FAILS=fails, CHANGED=changed, DEPLOYED="1")
    assert code == 1
    assert why in shown[-1] and shown[-1].endswith(str(tmp_path / "log"))
    assert any(seen in line for line in shown)


@pytest.mark.slow
def test_the_log_is_named_first(tmp_path: Path) -> None:
    code, shown, _ = run(tmp_path, "drill.sh", LIFEBOAT_LAB_LOG="", DEPLOYED="1")
    assert code == 0
    named = Path(shown[0].removeprefix("log: "))
    try:
        assert "TASK [something]" in named.read_text()
        assert named.stat().st_mode & 0o077 == 0
    finally:
        named.unlink()


DOCKER = """#!/bin/sh
case "$1" in
inspect) for host in 1 2 3 4; do echo "id $STARTED true"; done; exit "${GONE:-0}" ;;
exec) seq "${HEALTHY:-6}" ;;
esac
"""


def stands(tmp_path: Path, *words: str, **env: str) -> bool:
    """Whether the script ends with 0, with a stand-in of docker."""
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    note = str(tmp_path / "standing")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LIFEBOAT_LAB_STANDING": note, **env}
    return subprocess.run([str(ROOT / "tests/lab/standing.sh"), *words], env=environment, check=False).returncode == 0


def test_a_lab_that_stands_is_left_alone(tmp_path: Path) -> None:
    assert not stands(tmp_path, STARTED="1"), "nobody noted it"
    assert stands(tmp_path, "note", STARTED="1")
    assert stands(tmp_path, STARTED="1")
    assert not stands(tmp_path, STARTED="2"), "a machine was booted again"
    assert not stands(tmp_path, STARTED="1", GONE="1")
    assert not stands(tmp_path, STARTED="1", HEALTHY="5"), "a service is not well"
    assert stands(tmp_path, "forget") and not stands(tmp_path, STARTED="1")


def test_a_lab_that_is_not_well_is_not_noted(tmp_path: Path) -> None:
    assert stands(tmp_path, "note", STARTED="1", HEALTHY="5")
    assert not stands(tmp_path, STARTED="1", HEALTHY="5")


@pytest.mark.slow
def test_a_site_is_drilled_from_what_a_keeper_pulled(tmp_path: Path) -> None:
    """Before the drill the keeper has pulled, and the spare may read it; every play knows that the vault pulls."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\ncase "$*" in *"test -e"*) exit 1;; esac\necho "docker $*"\n')
    docker.chmod(0o755)
    code, shown, log = run(tmp_path, "drill.sh site", VAULT="pull", DEPLOYED="1")
    assert code == 0, shown
    ran = [line for line in log.splitlines() if line.startswith(("ran ", "docker "))]
    assert [words for line in ran for words in line.split() if words.startswith("lifeboat.dr.") or words == "pull"] == [
        "lifeboat.dr.keeper", "lifeboat.dr.backup", "pull", "lifeboat.dr.readback", "lifeboat.dr.drill",
        "lifeboat.dr.recover_site",
    ]  # fmt: skip
    assert all("-e @tests/lab/pull.yml" in line for line in ran if line.startswith("ran "))
    (grant,) = (line for line in ran if "readback" in line)
    assert "target=spare1" in grant and "confirm=vault1" in grant and "expires=20" in grant
    code, shown, _log = run(tmp_path, "drill.sh database", VAULT="pull", DEPLOYED="1")
    assert code == 2 and "is for the scenario site" in shown[-1]
