# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to stop containers whose programs do not end at Docker's signal."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import ComposeRuntime
from postgres_stack import IMAGE, docker

PROJECT = f"""\
name: it-stop-{os.getpid()}
x-one: &one
  image: {IMAGE}
  network_mode: none
  stop_signal: SIGTERM
services:
  deaf: {{<<: *one, entrypoint: [sleep, infinity]}}
  shell: {{<<: *one, entrypoint: [bash, -c, "sleep 600; true"]}}
  hears: {{<<: *one, entrypoint: [bash, -c, "trap 'sleep 2; exit 7' TERM; while :; do sleep 0.1; done"]}}
  reaped: {{<<: *one, init: true, entrypoint: [sleep, infinity]}}
  patient: {{<<: *one, entrypoint: [sleep, "4"], stop_grace_period: 30s}}
"""


def test_only_a_program_that_hears_nothing_is_killed_at_once(engine: None, tmp_path: Path) -> None:
    del engine
    (tmp_path / "compose.yml").write_text(PROJECT, encoding="utf-8")
    settings = {
        "stack": "it", "runtime": {"project_directory": str(tmp_path)}, "database": {"service": "deaf"},
        "repository": {"type": "local", "path": str(tmp_path)}, "state_directory": str(tmp_path / "state"),
    }  # fmt: skip
    stack = ComposeRuntime(config.from_mapping(settings))
    words = ["compose", "--project-directory", str(tmp_path)]
    names = ["deaf", "shell", "hears", "reaped", "patient"]
    try:
        docker(*words, "up", "--detach")
        one_off = docker(*words, "run", "--detach", "deaf").strip()
        name = docker("inspect", "--format", "{{.Name}}", one_off).strip("/\n")
        time.sleep(0.5)  # for the trap
        began = time.monotonic()
        told = [*stack.stop(names[:4], timeout=60), *stack.end([name], timeout=60)]
        took = time.monotonic() - began
        assert [line.partition(":")[0] for line in told] == ["deaf", "shell", name]
        assert took < 9, "Docker waits for 10 s"
        stack.stop(["patient"], timeout=60)
        codes = {name: stack.state(name).exit_code for name in names}
        assert codes == {"deaf": 137, "shell": 137, "hears": 7, "reaped": 143, "patient": 0}
    finally:
        docker(*words, "down", "--timeout", "0", "--remove-orphans")
