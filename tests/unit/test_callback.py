# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stdout callback, by what ansible-playbook prints with the repository's own ansible.cfg."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.callback import brief

ROOT = Path(__file__).resolve().parents[2]
TIMES = {"started_at": "2026-11-24T00:00:00Z", "finished_at": "2026-11-24T00:00:05Z"}
PHASE = {**TIMES, "monotonic": [100.0, 110.6], "boot": "b0075"}


def run(
    tmp_path: Path, tasks: list[dict[str, Any]], *words: str, hosts: str = "localhost,", **env: str
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a play with these tasks on hosts that are this machine."""
    book = tmp_path / "play.yml"
    head = {"name": "A play", "hosts": "all", "gather_facts": False, "connection": "local"}
    values = {"ansible_python_interpreter": sys.executable}
    book.write_text(json.dumps([{**head, "vars": values, "tasks": tasks}]), encoding="utf-8")
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", hosts, str(book), *words]
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_STDOUT_CALLBACK"}
    environment |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **env}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def debug(msg: object, **more: object) -> dict[str, Any]:
    return {"name": "Say it", "ansible.builtin.debug": {"msg": msg}, **more}


def command(*argv: str, name: str = "Do it", **more: object) -> dict[str, Any]:
    return {"name": name, "ansible.builtin.command": {"argv": list(argv)}, **more}


def shell(script: str, name: str = "Do it", **more: object) -> dict[str, Any]:
    return command("sh", "-c", script, name=name, **more)


def body(stdout: str) -> list[str]:
    """What is between the play's name and the recap."""
    lines = stdout.partition("PLAY RECAP")[0].strip().splitlines()
    assert lines[0].startswith("A play"), stdout
    return [line.rstrip() for line in lines[1:] if line.strip()]


QUIET = [{"name": "Nothing", "ansible.builtin.assert": {"that": "true"}}, debug("skipped", when=False)]


@pytest.mark.slow
def test_a_message_a_change_and_nothing_else(tmp_path: Path) -> None:
    tasks = [
        *QUIET,
        debug(["one", "  two"]),
        debug({"a": 1}),
        {"name": "A variable", "ansible.builtin.debug": {"var": "ansible_check_mode"}},
        command("true", name="Change"),
        command("true", name="Keep", changed_when=False),
        command("true", name="Each", loop=[1, 2]),
        debug("{{ item }}", loop=["x", "y"]),
    ]
    code, out, _ = run(tmp_path, tasks)
    assert code == 0, out
    host = "localhost |"
    assert body(out) == [
        f"{host} one", f"{host}   two", f"{host} msg:", f"{host}     a: 1", f"{host} ansible_check_mode: false",
        f"{host}    changed  Change", f"{host}    changed  Each", f"{host} x", f"{host} y",
    ]  # fmt: skip
    assert "localhost                  : ok=8    changed=2 " in out, "machines read the recap"


@pytest.mark.slow
def test_with_v_it_is_the_default_callback(tmp_path: Path) -> None:
    tasks = [*QUIET, debug("hello"), command("true"), command("false", ignore_errors=True)]
    mine, default = (
        run(tmp_path, tasks, "-v", ANSIBLE_STDOUT_CALLBACK=name)[1]
        for name in ("lifeboat.dr.brief", "ansible.builtin.default")
    )
    changing = ("start", "end", "delta")

    def stable(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.strip().startswith(changing)]

    assert stable(mine) == stable(default)
    assert "TASK [Nothing]" in mine


@pytest.mark.slow
def test_an_error_is_shown_once(tmp_path: Path) -> None:
    """As a recovery fails: the module's error, then a rescue that says it once more with what to do next."""
    words = ["{{ ansible_failed_result.msg }}", "state: as it was found", "next: run it again"]
    again = {"name": "Say what is next", "ansible.builtin.fail": {"msg": words}}
    given = {"id": "x", "config_directory": str(tmp_path / "none")}
    broken = {"name": "restore | Restore", "lifeboat.dr.database_restore": given}
    code, out, err = run(tmp_path, [{"block": [broken], "rescue": [again]}])
    assert code == 2
    lines = body(out)
    assert re.fullmatch(r"localhost \| FAILED after \d\.\d s  restore \| Restore", lines[0])
    assert lines[-2:] == ["localhost | state: as it was found", "localhost | next: run it again"]
    assert out.count("no stack is configured") == 1, out
    for word in ("monotonic", "boot", "started_at", "attempted:"):
        assert word not in out + err
    assert "failed=1" in out and "rescued=1" in out


@pytest.mark.slow
def test_errors_of_every_kind(tmp_path: Path) -> None:
    tasks = [
        shell("echo first; echo why >&2; exit 3", name="A program", ignore_errors=True),
        {"name": "Not so", "ansible.builtin.assert": {"that": "1 == 2"}, "ignore_errors": True},
        debug("{{ nothing_of_that_name }}", name="Undefined", ignore_errors=True),
        shell("exit {{ item }}", name="Each", loop=[0, 4], ignore_errors=True),
        shell("echo s3cret >&2; exit 1", name="Hidden", no_log=True, ignore_errors=True),
        command("/no/such/program", name="Missing", ignore_errors=True),
        {"name": "Unknown option", "ansible.builtin.file": {"path": "/", "nonsense": 1}},
    ]
    code, out, err = run(tmp_path, tasks)
    assert code == 2
    text = "\n".join(body(out))
    assert "FAILED  A program" in text and "|   why" in text and out.count("(ignored)") == 6
    assert "not true: 1 == 2" in text
    assert "'nothing_of_that_name' is undefined" in text and text.count("nothing_of_that_name") == 1
    assert "FAILED  Each (item=4)" in text and "(item=0)" not in text
    assert "FAILED  Hidden" in text and "its output is hidden (no_log)" in text and "s3cret" not in out + err
    assert "FAILED  Missing" in text and "No such file" in text
    assert "FAILED  Unknown option" in text and "nonsense" in text and f"({tmp_path}/play.yml:1)" in text
    assert "[ERROR]" not in out + err


@pytest.mark.slow
def test_what_cannot_be_shown_in_short_is_shown_as_ever(tmp_path: Path) -> None:
    """A callback that raises would hide the error that it was to show."""
    broken = tmp_path / "callbacks"
    broken.mkdir()
    source = (ROOT / "plugins/callback/brief.py").read_text(encoding="utf-8")
    assert "def error_lines(" in source
    (broken / "broken.py").write_text(source.replace("    found = lines_of(", "    found = [][0] or lines_of("))
    env = {"ANSIBLE_CALLBACK_PLUGINS": str(broken), "ANSIBLE_STDOUT_CALLBACK": "broken"}
    code, out, err = run(tmp_path, [shell("echo why >&2; exit 3", name="A program")], **env)
    assert code == 2
    assert "the default callback takes over" in err and "fatal: [localhost]: FAILED!" in out and "why" in out


@pytest.mark.slow
def test_an_unknown_module_is_said(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, [{"name": "What", "no.such.module": {}}])
    assert code != 0
    assert "no.such.module" in out + err


@pytest.mark.slow
def test_a_host_that_does_not_answer_and_one_that_does(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("here\ngone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1\n")
    code, out, _ = run(tmp_path, [shell("true", name="Reach"), debug("well")], hosts=str(hosts))
    assert code == 4
    # Ansible tells which of the two it met first: ssh's words, or that ssh had ended when it was sent something.
    assert "gone | UNREACHABLE  " in out and ("Connection refused" in out or "could not be sent" in out)
    assert "here |    changed  Reach" in out and "here | well" in out


@pytest.mark.slow
def test_check_mode_diffs_and_warnings(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old\n")
    tasks = [
        {"name": "Write", "ansible.builtin.copy": {"content": "new\n", "dest": str(target), "mode": "0644"}},
        {"name": "Warn", "ansible.builtin.fail": {"msg": "x"}, "when": "false"},
        {"name": "Meta", "ansible.builtin.debug": {"msg": "in {{ ansible_check_mode }}"}},
        {"name": "Old", "ansible.builtin.group_by": {"key": "in-valid"}},
    ]
    code, out, err = run(tmp_path, tasks, "--check", "--diff")
    assert code == 0
    lines = body(out)
    assert out.strip().startswith("A play (check mode)")
    assert "-old" in lines and "+new" in lines and "Write" in lines
    assert "localhost |    changed  Write" in lines and "localhost | in True" in lines
    assert "[WARNING]" in err, "a group with a bad name"
    assert target.read_text() == "old\n"


@pytest.mark.slow
def test_a_deprecation_and_a_warning_of_a_module_stay_visible(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "old.py").write_text(
        "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\nm = AnsibleModule({})\n"
        "m.warn('mind the gap')\nm.deprecate('use new', version='99')\nm.exit_json()\n"
    )
    # Not in the log in which `make compat` looks for deprecations of our own.
    away = {"ANSIBLE_LIBRARY": str(library), "ANSIBLE_LOG_PATH": str(tmp_path / "log")}
    _, _, err = run(tmp_path, [{"name": "Old", "old": {}}], **away)
    assert "mind the gap" in err and "use new" in err


@pytest.mark.slow
def test_a_wait_is_said_once(tmp_path: Path) -> None:
    third = f"echo x >> {tmp_path}/n; test $(wc -l < {tmp_path}/n) = 3"
    code, out, _ = run(tmp_path, [shell(third, name="Wait", until="r.rc == 0", register="r", retries=5, delay=0)])
    assert code == 0
    assert body(out) == ["localhost | … waiting: Wait", "localhost |    changed  Wait"]


# --- a recovery: the real role, with what modules returned -----------------------------------------------------------

MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
m = AnsibleModule({'result': {'type': 'dict'}}, supports_check_mode=True)
m.exit_json(**m.params['result'])
"""
TEXT = ["the database is damaged", *(f"  found: table {number} is missing" for number in range(20)), "to do: swap"]
RECORD = [
    "database of shop on app1: FAIL", "found:    damaged; x", "backup:   db_backup_1 taken 2026-11-24T00:00:00Z",
    "phase:    protect      10.6 s", "total:    20.0 s of 3600 s allowed",
    *(f"PASS      check {number}: fine" for number in range(40)),
    *(f"FAIL      bad {number}: differs" for number in range(12)), "COULD_NOT_VERIFY slots: no such tool",
    *(f"not tested: thing {number} (why)" for number in range(6)),
    "kept:     the old database as shop_quarantine_1", "way back: rename it",
]  # fmt: skip


def collection(tmp_path: Path) -> Path:
    """This collection with modules that return what they are told."""
    copy = tmp_path / "ansible_collections/lifeboat/dr"
    for part in ("callback", "module_utils"):
        (copy / "plugins").mkdir(parents=True, exist_ok=True)
        (copy / "plugins" / part).symlink_to(ROOT / "plugins" / part)
    (copy / "galaxy.yml").symlink_to(ROOT / "galaxy.yml")
    (copy / "plugins/modules").mkdir()
    for name in ("database_plan_info", "database_protect", "database_restore", "evidence", "site_phase"):
        (copy / "plugins/modules" / f"{name}.py").write_text(MODULE)
    return tmp_path


def told(module: str, name: str, **result: object) -> dict[str, Any]:
    return {"name": name, f"lifeboat.dr.{module}": {"result": {"phase": PHASE, "changed": True, **result}}}


FOLLOW = "Restore (follow it on the host with journalctl -f)"
RECOVERY = [
    told("database_plan_info", "plan | Assess the database", text=TEXT),
    debug(TEXT),
    told("database_protect", "protect | Stop the writers"),
    told("database_restore", f"restore | {FOLLOW}", seconds={"restore": 8.0, "swap": 0.25}, reopened={"phase": PHASE}),
    told("evidence", "record | Record the evidence", text=RECORD),
    debug([*RECORD, "evidence: /var/lib/lifeboat/shop/evidence/1.json"]),
]  # fmt: skip


@pytest.mark.slow
def test_a_recovery_takes_at_most_40_lines(tmp_path: Path) -> None:
    where = str(collection(tmp_path))
    code, out, err = run(tmp_path, RECOVERY, "-e", "confirm=localhost", ANSIBLE_COLLECTIONS_PATH=where)
    assert code == 0, out + err
    assert len([line for line in out.splitlines() if line.strip()]) <= 40, out
    lines = [line.removeprefix("localhost | ") for line in body(out)]
    assert lines[0] == "    10.6 s  plan | Assess the database"
    assert lines[1:17] == [*TEXT[:15], "… 7 more lines: the same command without confirm shows them, or with -v"]
    assert lines[17:] == [
        "    10.6 s  protect | Stop the writers",
        f"… restore | {FOLLOW}", "    10.6 s  restore | Restore (restore 8.0 s, swap 0.2 s)",
        "    10.6 s  reopen | Start the application and ask its endpoints",
        RECORD[0], "total:    20.0 s of 3600 s allowed", *(f"FAIL      bad {number}: differs" for number in range(8)),
        RECORD[-2], RECORD[-1], "evidence: /var/lib/lifeboat/shop/evidence/1.json",
        "… 5 more checks that are not PASS", "checks:   40 PASS, 6 not tested; each is in the evidence",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_plan_that_asks_for_the_confirmation_is_whole(tmp_path: Path) -> None:
    _, out, _ = run(tmp_path, RECOVERY[:2], ANSIBLE_COLLECTIONS_PATH=str(collection(tmp_path)))
    assert [line.removeprefix("localhost | ") for line in body(out)][1:] == TEXT


@pytest.mark.slow
def test_a_site_has_one_line_for_each_of_its_phases(tmp_path: Path) -> None:
    """What the modules and roles between two phases do belongs to a phase."""
    ended = {"finished_at": "2026-11-24T00:01:05.5Z", "started_at": "2026-11-24T00:00:00Z"}
    tasks = [
        told("site_phase", "build | Begin", phases=[]),
        command("true", name="Install something"),
        told("site_phase", "build | Go on", phases=[{"name": "build", **ended}]),
        told("database_restore", "database | Restore"),
        told("site_phase", "database | Go on", phases=[{"name": "build", **ended}, {"name": "database", **ended}]),
        told("evidence", "record | Record the evidence", text=["PASS"]),
        command("true", name="Afterwards"),
    ]
    _, out, _ = run(tmp_path, tasks, ANSIBLE_COLLECTIONS_PATH=str(collection(tmp_path)))
    wanted = ["    65.5 s  build", "    65.5 s  database", "   changed  Afterwards"]
    assert [line.removeprefix("localhost | ") for line in body(out)] == wanted


def test_a_record_in_short_keeps_what_is_not_pass() -> None:
    assert list(brief.record_lines(["x: PASS", "PASS      a: b", "COULD_NOT_VERIFY c: d"], ())) == [
        "x: PASS",
        "COULD_NOT_VERIFY c: d",
        "checks:   1 PASS; each is in the evidence",
    ]


def test_what_a_host_says_moves_no_cursor_and_makes_no_line(tmp_path: Path) -> None:
    hostile = {"printed": "a\x1b[2Jb\x9b2Jc\u2028TASK d"}
    tasks: list[dict[str, Any]] = [
        command(sys.executable, "-c", f"print({hostile['printed']!r})", register="said"),
        debug(["{{ said.stdout }}"]),
    ]
    code, stdout, stderr = run(tmp_path, tasks, PYTHONIOENCODING="utf-8")
    assert code == 0, stderr
    assert not {"\x1b", "\x9b", "\u2028"} & set(stdout)
    assert "a\\x1b[2Jb\\x9b2Jc" in stdout
