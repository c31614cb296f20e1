# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to a backend. Each is done for real, and the application must be seen to fail of it."""

from __future__ import annotations

import random
import time
from pathlib import Path

from ...backend.facts import BACKEND, role_of
from ...base import pipeline
from ...base.errors import Log, UsageError
from ...base.filesystem import explained
from ...settings import scenarios
from ...settings.config import Config
from ...stack import answer
from ...stack import files as stack_files
from ...stack.compose import ComposeRuntime
from ...stack.runtime import Opened
from . import service as drill_service
from .service import did_not_take

_PATIENCE = 30.0
_CRASH = 'ENTRYPOINT ["/bin/sh", "-c", "echo drill: this image cannot work >&2; exit 3"]'


def _service(run: Opened) -> str:
    """Return the first service that works for the application and is no store."""
    config, stack = run.config, run.runtime
    dependants = stack.dependants(config.database.service) if config.database.enabled else []
    named = [*config.application.writers, *dependants, *config.application.services]
    if isinstance(stack, ComposeRuntime):
        named += stack.services()
    found = [name for name in named if role_of(config, name) == BACKEND]
    if not found:
        raise UsageError("choose a service to break", config.stack, "it has none but its stores")
    return found[0]


def _compose(run: Opened) -> ComposeRuntime:
    stack = run.runtime
    if not isinstance(stack, ComposeRuntime):
        subject = run.config.stack
        raise UsageError("break the deployment", subject, "it is no Compose project", "Choose the fault killed.")
    return stack


def _down(config: Config) -> str:
    """Return what the application does not answer any more: without that, nothing is broken for anybody."""
    if not config.application.checks:
        cause = "lifeboat_application.checks is empty: it cannot be seen what broke"
        remedy = "Name an endpoint that the application answers when it is well."
        raise UsageError("see that the fault took", config.stack, cause, remedy)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for check in config.application.checks:
            if problem := answer.ask(check):
                return f"{check.method} {check.url}: {problem}"
        time.sleep(0.5)
    raise did_not_take("the application", f"it still answers all that it should, after {_PATIENCE:.0f} s")


def _remove_container(stack: ComposeRuntime, service: str) -> None:
    found = stack.state(service)
    if found.exists:
        drill_service.docker("remove the container", service, "rm", "--force", found.id)


def bad_image(run: Opened, _lot: random.Random, log: Log) -> str:
    """A bad deployment: the image's name means another one, which cannot work."""
    stack, service = _compose(run), _service(run)
    before = stack.state(service)
    name = stack.definition(service).image or f"{stack.project}-{service}"
    if "@" in name:
        raise UsageError("deploy a bad image", name, "it is pinned by its digest", "Choose another fault.")
    drill_service.docker("make a bad image", name, "commit", "--change", _CRASH, before.id, name, timeout=300)
    log(f"{name} means an image now that cannot work")
    # It may say that the service did not start: that is what it is for.
    pipeline.probe(stack.compose("up", "--detach", "--no-deps", "--no-build", "--pull", "never", service))
    after = stack.state(service)
    if not after.exists or after.image_id == before.image_id:
        raise did_not_take(service, f"it still runs {before.image_id}")
    proof = _down(run.config)
    return f"{service} was deployed from {after.image_id[:19]} and is {stack.state(service).describe()}; {proof}"


def kill(run: Opened, _lot: random.Random, _log: Log) -> str:
    service = _service(run)
    return f"{service} is {drill_service.kill(run, service).describe()}; {_down(run.config)}"


def break_file(run: Opened, _lot: random.Random, _log: Log) -> str:
    """Somebody's edit of the night before; it is noticed when the container is gone."""
    stack, service = _compose(run), _service(run)
    files = [
        path for path in stack_files.project_files(run.config) if path.suffix in (".yml", ".yaml") and path.is_file()
    ]
    if not files:
        raise UsageError("break the compose file", stack.label, "it is not where it can be seen")
    with explained("break the compose file", files[0]), files[0].open("a", encoding="utf-8") as file:
        file.write(f"\nservices: {{{service}: [\n")
    _remove_container(stack, service)
    status, _out, said = pipeline.probe(stack.compose("config", "--quiet"))
    if status == 0:
        raise did_not_take(str(files[0]), "Compose can still read it")
    return f"{files[0]}: {pipeline.one_line(said.encode())}; {_down(run.config)}"


def lose_environment(run: Opened, _lot: random.Random, _log: Log) -> str:
    """The file with the passwords is empty; it is noticed when the container is made again."""
    stack, service = _compose(run), _service(run)
    path = Path(stack.directory) / ".env"
    with explained("empty the environment file", path), path.open("r+b") as file:
        size = len(file.read())
        file.truncate(0)
    if not size:
        raise did_not_take(str(path), "it was empty already")
    _remove_container(stack, service)
    return f"{path} had {size} bytes and has {path.stat().st_size}; {_down(run.config)}"


SCENARIO = scenarios.BACKEND
FAULTS = (
    ("bad_image", "a bad deployment: the image's name means one that crashes when it starts", bad_image),
    ("killed", "the backend is killed", kill),
    ("compose_file_broken", "the compose file is no YAML any more, and the backend's container is removed", break_file),
    ("environment_lost", "the project's .env is emptied, and the backend's container is removed", lose_environment),
)  # fmt: skip
