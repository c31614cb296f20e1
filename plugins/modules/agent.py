#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agent
short_description: Install the lifeboat command on a host, and a stack's configuration
version_added: 0.1.0
description:
  - Writes one executable file, a Python zipapp of the very same core files that the modules run, so that a decision
    made by cron and one made by a playbook are one function.
  - It also has each file compiled for the version of O(interpreter), so that a call starts at once. Any other version
    uses the sources.
  - It is written again if the core's files, O(interpreter) or its version changed, or if the
    installed file was changed.
options:
  path:
    description: Where to install it.
    type: path
    default: /usr/local/bin/lifeboat
  completion:
    description: Where to install its completion for bash, a path; empty for none.
    type: str
    default: ""
  interpreter:
    description: The Python that runs it.
    type: path
    default: /usr/bin/python3
  settings:
    description:
      - A stack's configuration. Every key and value is checked before anything is installed, so that a mistake in the
        inventory stops here and not at night.
    type: dict
  secrets:
    description: Secrets that go with O(settings). Written 0600, shown nowhere.
    type: dict
  configure:
    description:
      - Write O(settings) and O(secrets) to C(/etc/lifeboat), make the stack's state directory and that of the logs, and
        have logrotate turn the logs over.
      - Where C(signing_key) of O(settings) names a file that is not there, make that key, C(ed25519), with mode 0600.
    type: bool
    default: false
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The version and RV(sha256) of the command, and the SHA-256 of the completion, before and after. Of what
      O(configure) changes the path, the mode and the content; of the secrets no content.
"""

EXAMPLES = r"""
- name: Install the agent
  lifeboat.dr.agent:
    path: /usr/local/bin/lifeboat
    completion: /usr/share/bash-completion/completions/lifeboat
    settings:
      stack: shop
      runtime:
        project_directory: /srv/shop

- name: Install it, and the stack's configuration
  lifeboat.dr.agent:
    settings: "{{ agent_configuration }}"
    secrets: "{{ agent_secrets }}"
    configure: true
"""

RETURN = r"""
path:
  description: The installed file.
  returned: success
  type: str
sha256:
  description: SHA-256 of all that the file is made of; the sources, the interpreter and its version. Not of the file
    itself, as Python need not compile to the same bytes twice.
  returned: success
  type: str
signer:
  description: The public key of what this host signs its backups with, for C(lifeboat_signers). Empty where it signs
    nothing, or in check mode where the key is yet to be made.
  returned: success
  type: str
log:
  description: What was done, line by line. Empty, as the diff has it.
  returned: success
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: success
  type: dict
"""

import functools
import hashlib
import importlib.abc
import importlib.util
import io
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path, PurePosixPath
from typing import Callable, Optional, cast

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import (
    clock,
    errors,
    filesystem,
    pipeline,
    typed,
    version,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.module import task
from ansible_collections.lifeboat.dr.plugins.module_utils.module.placing import Placing, install
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import retention, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import DIRECTORY, STATE_DIRECTORY, Config

CORE = task.__name__.rpartition(".module.")[0]
CLI = f"{CORE}.command.cli"
MAIN = b"from lifeboat.command.cli import main\n\nraise SystemExit(main())\n"


# Asked of the interpreter that will run the command: what it compiles to is good for its own version alone.
VERSION_OF = "import importlib.util; print(importlib.util.MAGIC_NUMBER.hex())"
# PEP 552: flags 1 is a hash that is not checked. A time would be one of the zip's, and the file is replaced whole or
# not at all.
COMPILE = """
import importlib.util, io, marshal, sys, zipfile
with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())) as sources:
    files = {name: sources.read(name) for name in sources.namelist()}
compiled = io.BytesIO()
with zipfile.ZipFile(compiled, "w") as archive:
    for name, source in files.items():
        code = marshal.dumps(compile(source, name, "exec", dont_inherit=True))
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
        archive.writestr(name + "c", head + code)
sys.stdout.buffer.write(compiled.getvalue())
"""
# The completion, from what was just compiled: to import the sources would compile them once more.
COMPLETE = """
import sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip") as compiled:
    compiled.write(sys.stdin.buffer.read())
    compiled.flush()
    sys.path.insert(0, compiled.name)
    from lifeboat.command import cli, completion
    sys.stdout.buffer.write(completion.script(cli.parser()).encode())
"""
# A whole parser would take most of the time that a second run takes: what it finds is compared with this by a test.
RELATIVE = re.compile(
    r"^[ \t]*from[ \t]+(?P<dots>\.+)(?P<module>[\w.]*)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#]*)", re.MULTILINE
)
NAMES = re.compile(r"(?<!\bas )\b(?!as\b)\w+")
# What it was made of, the SHA-256 of its completion, and that of all that stands before.
SEAL = re.compile(rb"lifeboat ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{64})")
SEAL_LENGTH = 203

LOGS = Path("/var/log/lifeboat")
LOGROTATE = Path("/etc/logrotate.d/lifeboat")
TURNED_OVER = """%s/*.log {
    weekly
    rotate 12
    compress
    delaycompress
    missingok
    notifempty
    create 0600 root root
}
"""


def ask(interpreter: str, script: str, data: bytes = b"") -> bytes:
    argv = [interpreter, "-I", "-S", "-c", script]
    try:
        done = subprocess.run(argv, input=data, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as exc:
        raise OSError(f"{interpreter} did not answer within {exc.timeout} s") from exc
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise OSError(f"{interpreter} exited {done.returncode}: {said[0]}")
    return done.stdout


@functools.cache
def source_of(name: str) -> Optional[str]:
    """The source of a module of the core, from a file or from the zip that Ansible sent; None for any other name."""
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:  # `name` is what a module defines, not a module
        return None
    if spec is None or spec.submodule_search_locations is not None:
        return None
    return cast(importlib.abc.InspectLoader, spec.loader).get_source(name)


@functools.cache
def imported(name: str, source: str) -> tuple[str, ...]:
    """The modules of the core that one of them imports, lazily too."""
    found = []
    for statement in RELATIVE.finditer(source):
        parent = ".".join([*name.split(".")[: -len(statement["dots"])], *filter(None, [statement["module"]])])
        if source_of(parent) is not None:
            found.append(parent)
        else:
            found += [f"{parent}.{imported}" for imported in NAMES.findall(statement["names"])]
    return tuple(found)


def sources() -> dict[str, bytes]:
    """The command's files: `cli` and all that it imports. Ansible sends them with this module for the same reason."""
    files = {"__main__.py": MAIN, "lifeboat/__init__.py": b""}
    waiting, seen = [CLI], {CLI}
    while waiting:
        name = waiting.pop()
        source = source_of(name)
        if source is None:
            raise OSError(f"{name} did not arrive with the module")
        path = PurePosixPath("lifeboat", *name[len(CORE) + 1 :].split("."))
        files[f"{path}.py"] = source.encode()
        files.update({f"{parent}/__init__.py": b"" for parent in path.parents if parent.name})
        found = set(imported(name, source)) - seen
        waiting += sorted(found)
        seen |= found
    return files


def packed(files: dict[str, bytes], comment: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
        archive.comment = comment
    return content.getvalue()


def inputs(files: dict[str, bytes], interpreter: str, magic: str) -> str:
    """All that the command's file depends on. Its bytes do not tell: marshal may write code in several ways."""
    found = hashlib.sha256(f"{interpreter}\0{magic}\0{COMPILE}".encode())
    for name in sorted(files):
        found.update(f"\0{name}\0{len(files[name])}\0".encode() + files[name])
    return found.hexdigest()


def version_of(interpreter: str) -> str:
    """What its .pyc files begin with; empty where it cannot be run."""
    try:
        return ask(interpreter, VERSION_OF).decode().strip()
    except OSError:
        return ""


def built(interpreter: str) -> tuple[bytes, bytes]:
    """The zipapp, https://docs.python.org/3/library/zipapp.html, which ends in its seal, see sealed; its completion."""
    files = sources()
    magic = version_of(interpreter)
    digest = inputs(files, interpreter, magic)
    if magic:
        archive = ask(interpreter, COMPILE, packed(files))
        script = ask(interpreter, COMPLETE, archive)
        with zipfile.ZipFile(io.BytesIO(archive)) as compiled:
            files.update({name: compiled.read(name) for name in compiled.namelist()})
    else:
        script = completed()
    content = f"#!{interpreter}\n".encode() + packed(files, bytes(SEAL_LENGTH))[:-SEAL_LENGTH]
    content += f"lifeboat {digest} {hashed(script)} ".encode()
    return content + hashed(content).encode(), script


def build(interpreter: str) -> bytes:
    return built(interpreter)[0]


def sealed(content: bytes) -> tuple[str, str]:
    """The inputs that an installed command was built from, and the SHA-256 of its completion; both empty where it is
    not, to the byte, what was built."""
    seal = SEAL.fullmatch(content[-SEAL_LENGTH:])
    if seal is None or hashed(content[:-64]) != seal[3].decode():
        return "", ""
    return seal[1].decode(), seal[2].decode()


def made_of(content: bytes) -> str:
    return sealed(content)[0]


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def completed() -> bytes:
    """The completion for bash where the interpreter cannot be run. Only here the whole command is imported."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, completion  # noqa: PLC0415

    return completion.script(cli.parser()).encode()


def written(value: object) -> bytes:
    """JSON that people can read, byte for byte what the filter to_nice_json writes: earlier versions used that."""
    return f"{json.dumps(value, indent=4, sort_keys=True)}\n".encode()


def configured(check: bool, config: Config, settings: object, secrets: object) -> Placing:
    placing = Placing(check)
    for directory in (DIRECTORY, STATE_DIRECTORY / config.stack, LOGS):
        placing.directory(directory)
    placing.file(DIRECTORY / f"{config.stack}.json", written(settings))
    placing.file(DIRECTORY / f"{config.stack}.secrets.json", written(secrets), secret=True)
    placing.file(LOGROTATE, (TURNED_OVER % LOGS).encode(), 0o644)
    if config.signing_key:
        signing_key(placing, Path(config.signing_key), config.stack)
    return placing


def signing_key(placing: Placing, path: Path, stack: str) -> None:
    """Make the key where nothing is. It is never replaced: every backup that it signed would be untrusted."""
    if os.path.lexists(path):
        return
    if not path.parent.exists():
        placing.directory(path.parent)
    placing.file(path, b"yet to be made" if placing.check else made_key(f"lifeboat, {stack}"), secret=True)


def made_key(comment: str) -> bytes:
    with filesystem.scratch("lifeboat-key-") as folder:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", f"{folder}/key"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if done.returncode != 0:
            raise OSError(f"ssh-keygen exited {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
        return Path(folder, "key").read_bytes()


def signer_of(path: str) -> str:
    """The public part of the key; empty where it is yet to be made."""
    try:
        return sealing.public(path) if path and os.path.lexists(path) else ""
    except errors.LifeboatError as exc:
        raise OSError(exc.exit_status, str(exc).rstrip("."), path) from exc


def main() -> None:
    started = clock.start()
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/usr/local/bin/lifeboat"},
            "completion": {"type": "str", "default": ""},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "settings": {"type": "dict"},
            "secrets": {"type": "dict", "no_log": True},
            "configure": {"type": "bool", "default": False},
        },
        required_if=[("configure", True, ("settings",))],
        supports_check_mode=True,
    )
    task.show_names(module)
    path, given, secrets = Path(module.params["path"]), module.params["settings"], module.params["secrets"] or {}
    stack = None
    try:
        if given is not None:
            stack = config.from_mapping(given, secrets, where="inventory")
            retention.policy(stack)
    except errors.LifeboatError as exc:
        module.fail_json(msg=pipeline.scrub(f"{exc} Nothing was changed.", secrets))
    interpreter, tab = module.params["interpreter"], module.params["completion"]
    make = functools.cache(lambda: built(interpreter))
    diff = {"before": "", "after": ""}
    changed, signer = False, ""
    try:
        magic = version_of(interpreter)
        digest = inputs(sources(), interpreter, magic)
        wanted: list[tuple[Path, str, Callable[[bytes], str], Callable[[], bytes], int]] = [
            (path, digest, made_of, lambda: make()[0], 0o755)
        ]
        if tab:
            made, known = sealed(path.read_bytes()) if path.is_file() else ("", "")
            new = known if made == digest else hashed(make()[1])
            wanted.append((Path(tab), new, hashed, lambda: make()[1], 0o644))
        for path, new, digest_of, content, mode in wanted:
            before = path.read_bytes() if path.is_file() else b""
            old = (digest_of(before) or "not as it was installed") if before else "absent"
            same = old == new and path.stat().st_mode & 0o777 == mode
            if not same and not module.check_mode:
                if str(path) == tab:  # where no shell has completions yet
                    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                install(path, content(), mode)
            changed = changed or not same
            diff["before"] += f"{path}: {old}\n"
            diff["after"] += f"{path}: {version.VERSION} {new}\n"
        if stack is not None and module.params["configure"]:
            placed = configured(module.check_mode, stack, given, secrets)
            changed = changed or placed.changed
            diff = {"before": diff["before"] + placed.before, "after": diff["after"] + placed.after}
            signer = signer_of(stack.signing_key)
    except OSError as exc:
        where = exc.filename or path
        module.fail_json(msg=f"Could not install the lifeboat command ({where}): {exc.strerror or exc}.")
    path = Path(module.params["path"])
    if not magic:
        module.warn(f"{interpreter} cannot be run on this host: until it can, neither can {path}.")
    module.exit_json(
        changed=changed, path=str(path), sha256=digest, signer=signer, diff=diff, log=[],
        phase=typed.plain(started.phase()),
    )  # fmt: skip


if __name__ == "__main__":
    main()
