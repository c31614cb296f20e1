# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every step of a recovery, then the same command until it ends.

As a program: one recovery, by the real modules in the order of its role, in a process that can be killed. Its steps are
what Python's audit events tell: each program that is started, each change of a file, each request that writes. So a new
step is found by itself. The job comes on stdin as JSON: `kind`, `settings`, `secrets`, `asked`, `locks` and, to be
killed, `at` (the number of the step) and `late` (so many seconds into it).
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import importlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

Job = dict[str, Any]
RUNS = 4  # as often as an operator would type the same command
SEED = int(os.environ.get("SEED", "31"))
LIMIT = 600.0  # of a run; on a busy machine one takes minutes
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
# What is only read needs no kill of its own: nothing differs from what it was at the step before. What is not listed
# here counts as a change.
_READS = re.compile(
    r"docker (--\S+ )*((container|image|volume|network|system) )?"
    r"(inspect|ps|images|ls|logs|version|info|events|diff|df)\b"
    r"|docker compose .*\b(ps|config|version|images|logs|ls|port)\b"
    r"|git .*\b(ls-remote|rev-parse|log|show|diff|cat-file|rev-list|ls-tree|status|version|--version)\b"
    r"|(systemctl (show|status|cat|is-\w+|list-\w+)|findmnt|df|getent|ldconfig|uname|locale|stat|id|hostname)\b"
)


@dataclass(frozen=True)
class Step:
    """number: of the change in its run. name: what it is, without what differs from run to run."""

    number: int
    name: str


@dataclass
class Ended:
    """How one kill ended. second: what each further run of the same command said."""

    recovery: str
    step: Step
    late: float
    second: list[str] = field(default_factory=list)
    wrong: str = ""


class Failed(Exception):
    """A module ended with an error."""


# --- the recovery that is killed ---


def _plain(text: str) -> str:
    """Without what is new in each run: paths of the test, numbers, ids."""
    text = re.sub(r"/\S*/(?=[^/\s]+/[^/\s]+)", "…/", text)
    text = re.sub(r"\b[0-9a-f]{12,}\b", "#", text)
    return re.sub(r"[0-9]+", "#", text)


def _step(event: str, args: tuple[Any, ...]) -> str:
    """The name of the change that an audit event tells; empty where it is none."""
    if event == "subprocess.Popen":
        line = " ".join(os.fsdecode(word) for word in args[1])
        line = re.sub(r"^sh -c ulimit [^#]*# ", "", re.sub(r"\s+", " ", line))
        line = re.sub(r"^\S*/| --(env|project-directory|interactive|user|workdir)( [A-Z_0-9]+(=\S*)?| /\S+)?", "", line)
        return "" if _READS.match(line) else _plain(line)[:72]
    if event == "http.client.send" and isinstance(args[1], bytes):
        method, _, rest = args[1][:300].partition(b" ")
        if method in (b"PUT", b"POST", b"DELETE", b"PATCH"):
            path = rest.split(b" ")[0].decode("latin-1")
            return f"{method.decode()} {_plain('/'.join(path.split('?')[0].split('/')[:3]))}{'?' * ('?' in path)}"
        return ""
    if event == "open":
        path, _mode, flags = args
        if isinstance(path, int) or not flags & _WRITES or str(path).startswith(("/dev/", "/proc/")):
            return ""
        return f"open {_plain(os.fsdecode(path)) if '/' in os.fsdecode(path) else 'an entry'}"
    if event in _CHANGES:
        path = "" if isinstance(args[0], int) else os.fsdecode(args[0])
        return f"{event[3:]} {_plain(path) if '/' in path else 'an entry'}"
    return ""


def _traced(trace: int, at: int, late: float) -> None:
    """Write each step down before it is done; kill the process before (or so long into) the one with that number."""
    count, own = 0, threading.RLock()

    def die() -> None:
        time.sleep(late)
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        name = _step(event, args)
        if not name:
            return
        with own:
            count += 1
            os.write(trace, json.dumps([count, name, time.monotonic()]).encode() + b"\n")
            if count == at and not late:
                os.kill(os.getpid(), signal.SIGKILL)
            if count == at:
                threading.Thread(target=die, daemon=True).start()

    sys.addaudithook(hook)


def _caller(job: Job) -> Callable[..., dict[str, Any]]:
    """Run a module's real main(); its result, or Failed."""
    from ansible.module_utils import _internal
    from ansible.module_utils.basic import AnsibleModule
    from ansible.module_utils.common import warnings
    from ansible.module_utils.testing import patch_module_args

    _internal.is_controller = False
    AnsibleModule.log = lambda self, msg, **_: None

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name}")
        warnings._global_warnings = {}
        given = {"settings": job["settings"], "secrets": job["secrets"], **arguments}
        said = io.StringIO()
        with patch_module_args(given), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(said.getvalue())
        if result.get("failed"):
            raise Failed(f"{name}: {result['msg']}")
        return result

    return call


def _recorded(
    call: Callable[..., dict[str, Any]], scenario: str, plan: Job, steps: Sequence[tuple[str, Job]], error: str = ""
) -> None:
    """As the role recovery_common, at the end and after a failure: the evidence of the phases that were reached."""
    phases = [{"name": name, **done["phase"], "log": done["log"]} for name, done in steps]
    checks = [check for _name, done in steps for check in done.get("checks", ())]
    call("evidence", scenario=scenario, plan=plan, phases=phases, checks=checks, error=error)


def _judged(checks: Sequence[dict[str, Any]]) -> None:
    bad = [f"{check['result']} {check['name']}: {check['detail']}" for check in checks if check["result"] == "FAIL"]
    if bad:
        raise Failed("; ".join(bad))


def database(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role database_recovery."""
    made = call("database_plan_info", hold=True, **asked)
    plan = made["plan"]
    if not made["needed"]:
        return ""
    protected = call("database_protect", plan=plan, reopen=True)
    steps = [("assess", made), ("protect", protected)]
    if protected["mode"] == "started":
        _recorded(call, "database", plan, [*steps, ("reopen", protected["reopened"])])
        _judged([*protected["checks"], *protected["reopened"]["checks"]])
        return f"{plan['mode']}, started"
    try:
        done = call(
            "database_restore", id=plan["backup"]["id"], place=plan["backup"]["place"], force=True, reopen=True,
            databases=protected["replaced"], fresh=protected["fresh"], copied=protected["copied"], newer=plan["newer"],
            stamp=plan["stamp"], services=plan["writers"],
        )  # fmt: skip
    except Failed as exc:
        if protected["mode"] == "swap":
            call("stack_reopen", services=plan["writers"])
        _recorded(call, "database", plan, steps, str(exc))
        raise
    _recorded(call, "database", plan, [*steps, ("restore", done), ("reopen", done["reopened"])])
    _judged([*done["checks"], *done["reopened"]["checks"]])
    return f"{plan['mode']}, {protected['mode']}"


def backend(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role backend_recovery."""
    made = call("backend_plan_info", **asked)
    if not made["needed"]:
        return ""
    if made["blocked"]:
        raise Failed(made["blocked"])
    done = call("backend_recover", plan=made["plan"])
    _recorded(call, "backend", made["plan"], [("assess", made), ("recover", done)])
    _judged(done["checks"])
    return f"{made['plan']['cause']}: {done['mode']}"


def frontend(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role frontend_recovery."""
    made = call("frontend_plan_info", **asked)
    if not made["needed"]:
        return ""
    done = call("frontend_recover", plan=made["plan"], token=asked.get("token", ""))
    _recorded(call, "frontend", made["plan"], [("assess", made), ("recover", done)])
    _judged(done["checks"])
    return f"{made['plan']['condition']}: {done['mode']}"


def files(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """What the role site_recovery does with the stack's files; a second run that writes nothing has nothing to do."""
    done = call("config_deploy", **asked)
    _judged(done["checks"])
    return f"{len(done['written'])} put in place" if done["written"] else ""


def application_files(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role files_recovery."""
    made = call("files_plan_info", hold=True, **asked)
    if not made["needed"]:
        return ""
    done = call("files_recover", plan=made["plan"])
    _recorded(call, "files", made["plan"], [("assess", made), ("recover", done)])
    _judged(done["checks"])
    return f"{made['plan']['condition']}: {', '.join(check['detail'] for check in done['checks'])}"


def point(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """The step of the role site_recovery that brings the recovery point out of the vault."""
    done = call("point_fetch", **asked)
    return f"{len(done['fetched'])} fetched" if done["fetched"] else ""


def images(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """The step of the role site_recovery that provides the images, with its phases before and after."""
    point, now = asked["recovery_point"], datetime.now(timezone.utc)
    since = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03}Z"
    call("site_phase", begin="build", recovery_point=point, since=since)
    call("site_phase", begin="images", recovery_point=point)
    done = call("stack_images", images=asked["images"], id=asked["id"], place="repository")
    call("site_phase", begin="database", recovery_point=point, checks=done["checks"])
    _judged(done["checks"])
    return f"{len(done['brought'])} provided" if done["brought"] else ""


def objects(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role object_storage_recovery."""
    made = call("objects_plan_info", hold=True, **asked)
    plan = made["plan"]
    if not made["needed"]:
        return ""
    protected = call("objects_protect", plan=plan)
    services = plan["writers"]
    steps = [("assess", made), ("protect", protected)]
    try:
        if protected["mode"] != "started":
            restored = call(
                "objects_restore", id=plan["backup"]["id"], place=plan["backup"]["place"], force=True,
                prefix=plan["prefix"], exact=plan["exact"], partial=plan["partial"], fresh=protected["fresh"],
                asked=plan["asked"], state=plan["state"], bucket=plan["bucket"], others=plan["others"],
                newer=plan["newer"], stamp=plan["stamp"],
                bucket_settings="only" if plan["mode"] == "settings" else plan["settings"],
            )  # fmt: skip
            steps.append(("restore", restored))
    except Failed as exc:
        if protected["mode"] == "fill":
            call("stack_reopen", services=services)
        _recorded(call, "object_storage", plan, steps, str(exc))
        raise
    steps.append(("reopen", call("stack_reopen", services=services)))
    _recorded(call, "object_storage", plan, steps)
    _judged([check for _name, done in steps[2:] for check in done["checks"]])
    return f"{plan['mode']}, {protected['mode']}"


def backup(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the playbook backup does it."""
    return str(call("database_backup", **asked)["id"])


def prune(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the playbook prune does it."""
    return f"kept {len(call('backup_prune', **asked)['keep'])}"


def verify(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the playbook verify does it."""
    done = call("backup_verify", **asked)
    return f"{done['verdict']} of {done['id']}"


def drill(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role drill breaks and recovers a database."""
    broke = call("drill_fault", scenario="database", fault="table_dropped")
    return f"broken: {broke['name']}; {database(call, asked) or 'nothing to recover'}"


def beside(call: Callable[..., dict[str, Any]], asked: Job) -> str:
    """As the role drill restores a database next to production."""
    done = call("drill_beside", scenario="database", **asked)
    if done["verdict"] != "PASS":
        raise Failed(f"drill_beside: {done['verdict']}: {done['text']}")
    return f"beside: {done['verdict']}"


_RECOVERIES = (database, backend, frontend, files, application_files, point, images, objects)
KINDS = {kind.__name__: kind for kind in (*_RECOVERIES, backup, prune, verify, drill, beside)}


def _prepared(job: Job) -> None:
    """What a test's own process would patch."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock

    lock.DIRECTORY = Path(job["locks"])
    if prepare := job.get("prepare"):
        module, _, name = prepare.partition(":")
        getattr(importlib.import_module(module) if module else sys.modules[__name__], name)(job)


def vault_beside(job: Job) -> None:
    """The vault is another directory."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
    from ansible_collections.lifeboat.dr.plugins.module_utils.site import point_fetch

    vault = repositories.from_settings(LocalSettings(path=job["vault"]), {})
    point_fetch.open_store = lambda run: (vault, "vault")


def quick_frontend(job: Job) -> None:
    """The waits of a test's own GitHub, and a build by the test's own user: its directory is closed to others."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import builder, recovery
    from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github

    del job
    recovery.RUN_PAUSE = recovery.SITE_PAUSE = 0.02
    recovery.APPEARS, github.ATTEMPTS = 5.0, 1
    builder.owner = lambda settings: (os.geteuid(), os.getegid())


def main() -> None:
    job = json.load(sys.stdin)
    call = _caller(job)
    _prepared(job)
    for name in ("tempfile", "boto3", "yaml"):  # what an import opens is no step
        importlib.import_module(name)
    _traced(int(job["trace"]), job.get("at", 0), job.get("late", 0.0))
    try:
        said = {"said": KINDS[job["kind"]](call, job["asked"])}
    except Failed as exc:
        said = {"error": str(exc)}
    os.write(int(job["answer"]), json.dumps(said).encode())
    os._exit(0)  # threads of a client are nobody's to wait for


# --- the test's side ---


@dataclass(frozen=True)
class Outcome:
    """killed: it did not end. said: what it did, empty where there was nothing to do. error: what it failed with."""

    killed: bool
    said: str
    error: str
    steps: tuple[Step, ...]
    moments: tuple[float, ...] = ()

    @property
    def idle(self) -> bool:
        return not (self.killed or self.said or self.error)

    @property
    def text(self) -> str:
        return self.error[:160] or self.said or "nothing to do"


@contextlib.contextmanager
def started(job: Job, root: Path, at: int = 0, late: float = 0.0) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The recovery as a process of its own session; what it wrote down lies in the directory."""
    folder = root / f"run-{time.monotonic_ns()}"
    folder.mkdir(parents=True)
    (folder / "tmp").mkdir()
    trace, answer = (os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600) for name in ("trace", "answer"))
    environment = {
        **os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder / "tmp"), "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    told = json.dumps({**job, "trace": trace, "answer": answer, "at": at, "late": late}).encode()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment,
            pass_fds=(trace, answer),
        )  # fmt: skip
        os.close(trace), os.close(answer)
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(told)
            process.stdin.close()
        try:
            yield process, folder
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def outcome(process: subprocess.Popen[bytes], folder: Path) -> Outcome:
    """Wait for its end."""
    process.wait(LIMIT)
    lines = [json.loads(line) for line in (folder / "trace").read_text().splitlines()]
    steps = tuple(Step(number, name) for number, name, _ in lines)
    moments = tuple(moment for _, _, moment in lines)
    if process.returncode == -signal.SIGKILL:
        return Outcome(True, "", "", steps, moments)
    said = json.loads((folder / "answer").read_text() or "{}")
    error = said.get("error", "" if said else (folder / "output").read_text()[-2000:])
    assert said or error, "it ended without an answer"
    return Outcome(False, said.get("said", ""), error, steps, moments)


def run(job: Job, root: Path, at: int = 0, late: float = 0.0) -> Outcome:
    with started(job, root, at, late) as (process, folder):
        return outcome(process, folder)


class Recovery:
    """One recovery that is killed everywhere. Subclasses say what is lost, and what must be there in the end."""

    name: str
    most = 6  # kills of a run that does not take every step,
    always = "(?!)"  # and in addition those before each step with such a name
    records = True  # whether it ends with the evidence, as a role of its own does

    def __init__(self, root: Path) -> None:
        self.root = root

    def about(self, kind: str, settings: Job, **asked: Any) -> Job:
        locks = self.root / "locks"
        locks.mkdir(mode=0o700, exist_ok=True)
        return {"kind": kind, "settings": settings, "secrets": {}, "asked": asked, "locks": str(locks)}

    def job(self) -> Job:
        raise NotImplementedError

    def lose(self) -> None:
        """Break what is to be recovered; nothing of an earlier recovery is left."""
        raise NotImplementedError

    def compare(self) -> str:
        """What is not as it should be, looked at without our code; empty where all is right."""
        raise NotImplementedError

    def evidence(self, *, wanted: bool = False) -> list[str]:
        """What is wrong with the records that lie in the state directory: each must be whole, and its log the one that
        it names. A run that was killed before its record is no reason to find none, unless one is wanted."""
        folder = self.root / "state/evidence"
        wrong = []
        for path in sorted(folder.glob("*.json")):
            try:
                logs = json.loads(path.read_text())["logs"]
                kept = hashlib.sha256(path.with_suffix(".log").read_bytes()).hexdigest() if logs else ""
                wrong += [f"{path.name}: another log"] * any(log["sha256"] != kept for log in logs)
            except (OSError, ValueError, KeyError) as exc:
                wrong.append(f"{path.name}: {exc!r}")
        if wanted and not any(folder.glob("*.json")):
            wrong.append("no evidence was recorded")
        return wrong

    def ended(self, done: Outcome) -> bool:
        """Whether that was the last run: there was nothing left to do."""
        return done.idle

    def chosen(self, whole: Outcome, *, every: bool) -> list[tuple[Step, float]]:
        """The kills: before each step; by turns before it and in the middle of it where it is a program that is run.

        Not every: a seeded sample of the names, spread over the run.
        """
        by_name = collections.defaultdict(list)
        for index, step in enumerate(whole.steps):
            by_name[step.name].append(index)
        rng = random.Random(f"{SEED} {self.name}")  # noqa: S311 - which steps, the same ones each time
        picked = sorted(range(len(whole.steps)) if every else [rng.choice(found) for found in by_name.values()])
        if not every and len(picked) > self.most:
            picked = [
                rng.choice(picked[part * len(picked) // self.most : (part + 1) * len(picked) // self.most])
                for part in range(self.most)
            ]
            names = [index for index, step in enumerate(whole.steps) if re.match(self.always, step.name)]
            picked = sorted({*picked, *names})
        kills = []
        for turn, index in enumerate(picked):
            after = whole.moments[index + 1] if index + 1 < len(whole.moments) else whole.moments[index]
            late = round((after - whole.moments[index]) * rng.uniform(0.2, 0.8), 3)
            program = not whole.steps[index].name.startswith(("open ", "rename ", "mkdir ", "rmdir ", "remove "))
            kills.append((whole.steps[index], late if program and turn % 2 and late > 0.02 else 0.0))
        return kills

    def until_it_ends(self) -> tuple[list[str], bool]:
        """The same command until there is nothing left to do: what each run said, and whether it came to its end."""
        said = []
        for _ in range(RUNS):
            done = run(self.job(), self.root / "runs")
            said.append(done.text)
            if self.ended(done):
                return said, True
        return said, False

    def everywhere(self, *, every: bool) -> list[Ended]:
        """Kill it at each chosen step; how each ended."""
        self.lose()
        assert self.compare(), f"{self.name}: nothing was lost"
        whole = run(self.job(), self.root / "runs")
        assert self.ended(whole) or (whole.said and not whole.error), whole
        assert whole.steps, "no step was seen"
        assert (wrong := "; ".join([self.compare(), *self.evidence(wanted=self.records)])) == "", f"no kill: {wrong}"
        found = []
        for step, late in self.chosen(whole, every=every):
            self.lose()
            first = run(self.job(), self.root / "runs", step.number, late)
            ended = Ended(self.name, step, late)
            if not first.killed:
                ended.second.append(f"it ended before: {first.text}")
            said, end = self.until_it_ends()
            ended.second += said
            problems = ["" if end else "it does not come to an end", self.compare(), *self.evidence()]
            ended.wrong = "; ".join(filter(None, problems))
            found.append(ended)
            print(line(ended), flush=True)
        return found


def line(ended: Ended) -> str:
    how = f"{ended.late:.2f} s into" if ended.late else "before"
    said = " | ".join(f"{index}. {text}" for index, text in enumerate(ended.second, 2))
    step = f"{how:>12} {ended.step.number:>4} {ended.step.name:<73}"
    return f"{ended.recovery:<20} {step} {ended.wrong or 'right'}: {said}"


def table(found: Sequence[Ended]) -> str:
    """recovery x step x how the runs after it ended."""
    wrong = sum(bool(ended.wrong) for ended in found)
    return "\n".join(["", *map(line, found), f"{len(found)} kills, {wrong} ended wrong", ""])


def wanted_all() -> bool:
    return os.environ.get("KILLS") == "all"


def expect_right(found: Sequence[Ended]) -> None:
    assert found, "nothing was killed"
    wrong = [line(ended) for ended in found if ended.wrong]
    assert not wrong, table(found)


if __name__ == "__main__":
    main()
