"""What the scenarios' tests stand on: playbooks as an operator runs them, a host, and a look at the stack from outside.

Nothing here asks Lifeboat whether the data is right: `Stack.portrait` asks psql.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ansible_runner
import pytest
from _pytest.mark import ParameterSet
from awx_answers import as_awx_writes

ROOT = Path(__file__).resolve().parents[2]
# The set of hosts that the tests run on: molecule/inventory/hosts.py names them so.
LANE = os.environ.get("LIFEBOAT_LANE", "test")
LAB = f"lifeboat-{LANE}"
APP, SPARE, VAULT, FORGE, LEDGER, README = (
    f"{LANE}-{name}1" for name in ("app", "spare", "vault", "forge", "ledger", "readme")
)
TEMPLATES = {
    Path(template["playbook"]).stem: template
    for template in json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
}
IDENTITY = ROOT / ".lab" / LAB / "age.key"
PORTRAIT = (Path(__file__).parent / "portrait.sql").read_text(encoding="utf-8")


class Named(Protocol):
    @property
    def name(self) -> str: ...


def cases(faults: Sequence[Named], often: Collection[Named]) -> list[ParameterSet]:
    """A case of each fault. Those that are not in `often` are long, for make release alone."""
    return [
        pytest.param(fault, id=fault.name.replace(" ", "-"), marks=[] if fault in often else [pytest.mark.long])
        for fault in faults
    ]


def identity() -> str:
    """The key that the lab's secrets are sealed for. It is on the controller alone."""
    return IDENTITY.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """One run of ansible-playbook. `results`: {task name: what the module returned on the last host that ran it}."""

    status: int
    changed: int
    changed_tasks: tuple[str, ...]
    results: Mapping[str, Any]
    errors: str

    def result(self, task: str) -> Any:
        """The result of the task whose name ends so; fails loudly where it did not run."""
        return next(value for name, value in self.results.items() if name.endswith(task))

    @property
    def said(self) -> str:
        """Every message that was shown, and every error."""
        messages = [value.get("msg") for value in self.results.values() if not value.get("skipped")]
        lines = [line for msg in messages if msg for line in (msg if isinstance(msg, list) else [msg])]
        return "\n".join([*map(str, lines), self.errors])


def playbook(
    name: str, *, inventories: Sequence[str] = (), check: bool = False, seconds: float = 1800, **extra: object
) -> Run:
    """Run one playbook; a failure is for the caller to judge. `extra` are variables, as with -e."""
    argv = ["ansible-playbook", name, "-e", json.dumps(extra)]
    for inventory in inventories or ("molecule/inventory",):
        argv += ["-i", inventory]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_JSON_INDENT": "0",
    }
    done = subprocess.run(
        [*argv, *(["--check"] if check else [])],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    start = done.stdout.find("{")
    assert start >= 0, f"{name} printed no result: {done.stdout}{done.stderr}"
    report = json.loads(done.stdout[start:])
    results: dict[str, Any] = {}
    changed: list[str] = []
    for task in (task for play in report["plays"] for task in play["tasks"]):
        for result in task["hosts"].values():
            if not (result.get("skipped") and task["task"]["name"] in results):
                results[task["task"]["name"]] = result
            if result.get("changed"):
                changed.append(task["task"]["name"])
    total = sum(stat["changed"] for stat in report["stats"].values())
    return Run(done.returncode, total, tuple(changed), results, done.stderr)


def job(name: str, *, settings: Mapping[str, object] | None = None, check: bool = False, **answers: object) -> Run:
    """Run a playbook as a job of AWX: by ansible-runner and by its path, the survey's answers as AWX writes them.

    answers: in place of the survey's defaults; what AWX does not ask for comes from a credential. settings: variables
    that the inventory would have, which no survey asks for.
    """
    template = TEMPLATES[name.removeprefix("lifeboat.dr.")]
    questions = {question["variable"]: question["default"] for question in template["survey"]}
    assert set(answers) <= {*questions, *template["not_asked"]}, f"AWX would drop {set(answers) - set(questions)}"
    with tempfile.TemporaryDirectory(prefix="lifeboat-job-") as folder:
        (Path(folder) / "env").mkdir()
        written = as_awx_writes({**questions, **answers, "awx_job_id": 12})
        (Path(folder) / "env/extravars").write_text(written, encoding="utf-8")
        ran = ansible_runner.run(
            private_data_dir=folder, project_dir=str(ROOT), playbook=template["playbook"], quiet=True, timeout=1800,
            inventory=str(ROOT / "molecule/inventory"),
            envvars={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
            cmdline=" ".join(
                [*(["--check"] if check else []), *(["-e", shlex.quote(json.dumps(settings))] if settings else [])]
            ) or None,
        )  # fmt: skip
        events = list(ran.events)
        stats = ran.stats or {}
    results: dict[str, Any] = {}
    changed: list[str] = []
    for event in events:
        data = event.get("event_data", {})
        if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped"):
            results[data["task"]] = data.get("res") or {}
            if results[data["task"]].get("changed"):
                changed.append(data["task"])
    printed = "\n".join(event["stdout"] for event in events if event["event"] in ("verbose", "error"))
    return Run(int(ran.rc), sum(stats.get("changed", {}).values()), tuple(changed), results, printed)


def another_host_is_refused(name: str) -> None:
    """As a job: the confirmation names a host that the play is not about."""
    run = job(name, confirm="elsewhere1")
    assert run.status != 0
    assert "confirm=elsewhere1 names no host of this play" in run.said


_FILES = """
find /etc/lifeboat /var/lib/lifeboat /backup* /etc/cron.d /usr/local/bin -type f -exec sha256sum {} + 2>/dev/null | sort
ls -d /etc/lifeboat /var/lib/lifeboat /var/log/lifeboat /backup /etc/logrotate.d/* 2>/dev/null
true
"""


class CommandError(AssertionError):
    """A command on the host failed that should not have."""


@dataclass(frozen=True)
class Host:
    """A lab host, reached as the lab's inventory reaches it."""

    name: str

    def probe(
        self, *argv: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = ["docker", "exec", "--interactive"]
        for key in env or {}:
            words += ["--env", key]
        done = subprocess.run(
            [*words, self.name, *argv],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            env={**os.environ, **(env or {})}, capture_output=True, timeout=1800, check=False,
        )  # fmt: skip
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def run(self, *argv: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> str:
        done = self.probe(*argv, stdin=stdin, env=env)
        if done.returncode:
            raise CommandError(f"{argv} on {self.name} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def python(self, source: str, *argv: str) -> str:
        return self.run("python3", "-", *argv, stdin=source)

    def lifeboat(self, *argv: str) -> tuple[int, Any]:
        """The agent's exit code and its JSON."""
        done = self.probe("lifeboat", *argv, "--json")
        return done.returncode, json.loads(done.stdout)

    def http(self, method: str, url: str, body: object = None) -> tuple[int, Any]:
        """One request from the host itself: status and JSON (0 and None where nothing answers)."""
        words = ["curl", "--silent", "--max-time", "20", "--request", method, "--write-out", "\n%{http_code}", url]
        if body is not None:
            words += ["--header", "content-type: application/json", "--data-binary", json.dumps(body)]
        text, _, status = self.probe(*words).stdout.rpartition("\n")
        try:
            return int(status), json.loads(text)
        except ValueError:
            return int(status or 0), None

    def volumes(self) -> list[str]:
        return sorted(self.run("docker", "volume", "ls", "--quiet").split())

    def world(self) -> dict[str, Any]:
        """What a run that changes nothing leaves the same: containers, volumes, images, Lifeboat's files, cron."""
        ids = self.run("docker", "ps", "--all", "--quiet", "--no-trunc").split()
        shown = self.run("docker", "inspect", "--format", "{{.Name}} {{.Id}} {{.State.Pid}}", *ids) if ids else ""
        files = self.run("sh", "-c", _FILES)
        return {
            "containers": sorted(shown.splitlines()),
            "volumes": self.volumes(),
            "files": files.splitlines(),
        }


@dataclass(frozen=True)
class Clock:
    """Cron of a host. It stands still, so that no job of the hour changes what a test compares or holds the lock that
    it needs; the daemon is stopped, not its unit, which a deployment would start again."""

    host: Host

    def stop(self) -> None:
        """Returns when what cron had begun has ended."""
        self.host.probe("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "cron")
        daemon = "pid=$(systemctl show --property MainPID --value cron)"
        jobs = daemon + "; ps --no-headers -o stat= --ppid ${pid#0} | grep -qv ^Z"
        deadline = time.monotonic() + 1800
        while self.host.probe("sh", "-c", jobs).returncode == 0:
            assert time.monotonic() < deadline, "a job of cron has not ended: " + self.host.run("ps", "axf")
            time.sleep(1)

    def run(self) -> None:
        self.host.probe("systemctl", "kill", "--kill-whom=main", "--signal=CONT", "cron")


@dataclass
class Stack:
    """One Compose project with a PostgreSQL service, seen from outside Lifeboat."""

    host: Host
    directory: str
    project: str
    service: str
    user: str
    database: str
    password: str = ""
    volume: str = ""
    config: str = ""
    marks: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def container(self) -> str:
        return f"{self.project}-{self.service}-1"

    def compose(self, *argv: str) -> str:
        return self.host.run("docker", "compose", "--project-directory", self.directory, *argv)

    def psql(self, sql: str, *, database: str = "") -> subprocess.CompletedProcess[str]:
        name = (database or self.database).replace("\\", "\\\\").replace("'", "\\'")
        return self.host.probe(
            "docker", "exec", "--interactive", "--env", "PGPASSWORD", "--env", "PGUSER", self.container,
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", f"dbname='{name}'", "-f", "-",
            stdin=sql, env={"PGPASSWORD": self.password, "PGUSER": self.user},
        )  # fmt: skip

    def sql(self, sql: str, *, database: str = "") -> list[str]:
        done = self.psql(sql, database=database)
        if done.returncode:
            raise CommandError(f"psql in {self.container} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.splitlines()

    def portrait(self, database: str = "") -> list[str]:
        """Rows and content of every table, sequences, large objects, definitions, privileges, roles: by psql alone."""
        return self.sql(PORTRAIT, database=database)

    def databases(self) -> list[str]:
        return self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1;", database="template1")

    def forget_quarantine(self) -> None:
        """What an operator does when the damaged data is no longer wanted."""
        for name in self.databases():
            if "_quarantine_" in name:
                self.sql(f'DROP DATABASE "{name.replace(chr(34), chr(34) * 2)}" WITH (FORCE);', database="template1")
        for name in self.host.volumes():
            if name.startswith(f"{self.volume}_quarantine_"):
                self.host.run("docker", "volume", "rm", name)

    def wait_until_well(self, seconds: float = 120) -> None:
        """Every container of the project runs, and is healthy where it says so."""
        deadline = time.monotonic() + seconds
        while (ill := self.ill()) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not ill, f"{self.project}: {ill}"

    def ill(self) -> list[str]:
        label = f"label=com.docker.compose.project={self.project}"
        ids = self.host.run("docker", "ps", "--all", "--quiet", "--filter", label).split()
        shown = self.host.run(
            "docker", "inspect", "--format",
            "{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", *ids,
        ).splitlines()  # fmt: skip
        expected = self.compose("config", "--services").split()
        bad = [line for line in shown if not re.search(r" running (healthy|none)$", line)]
        return bad + ([f"{len(shown)} containers of {len(expected)} services"] if len(shown) != len(expected) else [])

    def files(self) -> list[str]:
        """The project's files with their modes and sums."""
        script = "find . -type f -exec stat -c '%a %U %n' {} + -exec sha256sum {} + | sort"
        return self.host.run("sh", "-ec", f'cd "$0" && {script}', self.directory).splitlines()

    def data_directory(self, volume: str = "") -> str:
        """Where the database's files lie on the host."""
        return self.host.run(
            "docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume or self.volume
        ).strip()
