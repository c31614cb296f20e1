"""A job as AWX 24.6.1 starts it: the answers in a file of YAML with its marks, through ansible-runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

ROOT = Path(__file__).resolve().parents[2]


class _Marked(yaml.SafeDumper):
    """Each text has the tag `!unsafe`, keys too."""

    def represent_data(self, data: Any) -> yaml.Node:
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


def answers_file(variables: Mapping[str, Any], template_variables: Mapping[str, Any] | None = None) -> str:
    """The text of AWX's `-e @file`. What equals a variable of the template itself is trusted, and has no mark."""
    trusted = template_variables or {}
    return "".join(
        yaml.dump(
            {name: value},
            Dumper=yaml.SafeDumper if name in trusted and trusted[name] == value else _Marked,
            default_flow_style=False,
        )
        for name, value in variables.items()
    )


def job_variables(number: int, template: Mapping[str, Any], launched: str = "manual") -> dict[str, Any]:
    """What AWX tells each job about itself, under its two names."""
    known = {
        "job_id": number,
        "job_launch_type": launched,
        "job_template_id": template["id"],
        "job_template_name": template["name"],
        "project_revision": "c0ffee",
        "user_id": 1,
        "user_name": "admin",
        "user_email": "",
    }
    return {f"{prefix}_{name}": value for prefix in ("awx", "tower") for name, value in known.items()}


@dataclass(frozen=True)
class Result:
    status: str
    rc: int
    stdout: str
    events: tuple[dict[str, Any], ...]

    def failures(self) -> list[str]:
        """The names of the tasks that failed."""
        return [event["event_data"]["task"] for event in self.events if event["event"] == "runner_on_failed"]


@dataclass(frozen=True)
class Launch:
    """What a job runs with. `template_variables` are the template's own, which are trusted; `injected` is the file with
    the variables of the job's credentials; `binary` is another ansible-playbook than this environment's."""

    playbook: str
    variables: Mapping[str, Any]
    inventory: Path | str
    job_type: str = "run"
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    injected: Path | None = None
    project: Path = ROOT
    binary: Path = Path(sys.executable).parent / "ansible-playbook"


def run(launch: Launch, folder: Path) -> Result:
    """Run a job in a folder of its own."""
    (folder / "env").mkdir(parents=True, exist_ok=True)
    answers = answers_file(launch.variables, launch.template_variables)
    (folder / "env" / "extravars").write_text(answers, encoding="utf-8")
    argv = ["-e", f"@{launch.injected}"] if launch.injected else []
    argv += ["--check"] if launch.job_type == "check" else []
    ran = ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(launch.project),
        playbook=launch.playbook,
        inventory=str(launch.inventory),
        envvars={"PATH": f"{launch.binary.parent}:{os.environ['PATH']}", **launch.environment},
        cmdline=" ".join(argv) or None,
        quiet=True,
    )
    events = tuple(ran.events)
    return Result(
        ran.status, int(ran.rc or 0), "\n".join(event["stdout"] for event in events if event["stdout"]), events
    )
