#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agent
short_description: Install the lifeboat command on a host
version_added: 0.1.0
description:
  - Writes one executable file, a Python zipapp of the very same core files that the modules run, so that a decision
    made by cron and one made by a playbook are one function.
  - The bytes depend on the core's files alone, so nothing changes while they do not.
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
attributes:
  check_mode:
    description: Can run without changing anything.
    support: full
  diff_mode:
    description: Shows what changed or would change.
    support: full
    details: The version and the SHA-256 of each file, before and after.
requirements:
  - Python >= 3.9 on the managed host
author:
  - The Lifeboat founders (@lifeboat)
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
"""

RETURN = r"""
path:
  description: The installed file.
  returned: success
  type: str
sha256:
  description: SHA-256 of the file.
  returned: success
  type: str
"""

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils import (
    apart,
    archive,
    backend_assess,
    backend_cause,
    backend_facts,
    backend_host,
    backend_images,
    backend_plan,
    backend_recovery,
    backend_redeploy,
    backend_space,
    backend_steps,
    backend_stores,
    backend_veil,
    backup,
    bucket,
    bucket_settings,
    catalog,
    checklist,
    checklist_command,
    checklist_incident,
    checklist_line,
    checks,
    cli,
    clock,
    completion,
    compose,
    compose_files,
    config,
    config_backup,
    config_parts,
    config_proof,
    config_restore,
    copier,
    copies,
    crypto,
    dump,
    endpoints,
    errors,
    escrow,
    escrow_kit,
    evidence,
    evidence_charts,
    evidence_command,
    evidence_drill,
    evidence_history,
    evidence_html,
    evidence_index,
    evidence_junit,
    evidence_limits,
    evidence_markdown,
    evidence_metrics,
    evidence_page,
    evidence_phases,
    evidence_review,
    evidence_schema,
    evidence_site,
    evidence_store,
    evidence_words,
    filesystem,
    fingerprint,
    frontend_assess,
    frontend_backup,
    frontend_build,
    frontend_plan,
    frontend_recovery,
    frontend_settings,
    frontend_site,
    git,
    github,
    growth,
    host,
    inventory,
    lifecycle,
    listing,
    lock,
    manifest,
    mirror,
    mirror_back,
    mirror_guard,
    mirror_mc,
    mirror_prune,
    mirror_state,
    mirror_verify,
    objects_aside,
    objects_assess,
    objects_choose,
    objects_compare,
    objects_plan,
    objects_proof,
    objects_recovery,
    pipeline,
    plan,
    point_fetch,
    points,
    postgresql,
    probe,
    prune,
    quarantine,
    reconcile,
    recovery,
    refetch,
    repository,
    repository_local,
    repository_s3,
    restore,
    retention,
    runtime,
    s3,
    s3_raw,
    s3_versions,
    schedule,
    scratch,
    service,
    show,
    signature,
    site_files,
    site_plan,
    site_scope,
    site_show,
    site_state,
    sources,
    stack_images,
    status,
    terminal,
    throttle,
    vault,
    verify,
    version,
)

# Importing them is what makes Ansible send them to the host; their sources are then read back from what it sent.
CORE = (
    apart, archive, backend_assess, backend_cause, backend_facts, backend_host, backend_images, backend_plan,
    backend_recovery, backend_redeploy, backend_space, backend_steps, backend_stores, backend_veil, backup, bucket,
    bucket_settings, catalog, checklist, checklist_command, checklist_incident, checklist_line, checks, cli, clock,
    completion, compose, compose_files, config, config_backup, config_parts, config_proof, config_restore, copier,
    copies, crypto, dump, endpoints, errors, escrow, escrow_kit, evidence, evidence_charts, evidence_command,
    evidence_drill, evidence_history, evidence_html, evidence_index, evidence_junit, evidence_limits, evidence_markdown,
    evidence_metrics, evidence_page, evidence_phases, evidence_review, evidence_schema, evidence_site, evidence_store,
    evidence_words, filesystem, fingerprint, frontend_assess, frontend_backup, frontend_build, frontend_plan,
    frontend_recovery, frontend_settings, frontend_site, git, github, growth, host, inventory, lifecycle, listing, lock,
    manifest, mirror, mirror_back, mirror_guard, mirror_mc, mirror_prune, mirror_state, mirror_verify, objects_aside,
    objects_assess, objects_choose, objects_compare, objects_plan, objects_proof, objects_recovery, pipeline, plan,
    point_fetch, points, postgresql, probe, prune, quarantine, reconcile, recovery, refetch, repository,
    repository_local, repository_s3, restore, retention, runtime, s3, s3_raw, s3_versions, schedule, scratch, service,
    show, signature, site_files, site_plan, site_scope, site_show, site_state, sources, stack_images, status, terminal,
    throttle, vault, verify, version,
)  # fmt: skip
MAIN = b"import sys\n\nfrom lifeboat.cli import main\n\nsys.exit(main())\n"


def build(interpreter: str) -> bytes:
    """The zipapp's bytes: same sources, same bytes. https://docs.python.org/3/library/zipapp.html"""
    files = {"__main__.py": MAIN, "lifeboat/__init__.py": b""}
    for module in CORE:
        name = module.__name__.rpartition(".")[2]
        source = module.__loader__.get_source(module.__name__)  # from a file, or from the zip that Ansible sent
        if source is None:
            raise OSError(f"{name}.py did not arrive with the module")
        files[f"lifeboat/{name}.py"] = source.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    return f"#!{interpreter}\n".encode() + packed.getvalue()


def install(path: Path, content: bytes, mode: int = 0o755) -> None:
    """Whole or not at all: cron may start it at any moment."""
    handle, partial = tempfile.mkstemp(prefix=".lifeboat-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise


def present(path: Path, content: bytes, mode: int) -> tuple[bool, str]:
    """Is it there as it should be? And the SHA-256 of what is there."""
    before = path.read_bytes() if path.is_file() else b""
    same = content == before and path.stat().st_mode & 0o777 == mode
    return same, hashlib.sha256(before).hexdigest() if before else "absent"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/usr/local/bin/lifeboat"},
            "completion": {"type": "str", "default": ""},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "settings": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    try:
        if module.params["settings"] is not None:
            prune.policy(config.from_mapping(module.params["settings"], where="inventory"))
    except errors.LifeboatError as exc:
        module.fail_json(msg=f"{exc} Nothing was changed.")
    digests: dict[str, str] = {}
    diff = {"before": "", "after": ""}
    changed = False
    try:
        wanted = [(path, build(module.params["interpreter"]), 0o755)]
        if module.params["completion"]:
            wanted.append((Path(module.params["completion"]), completion.script(cli.parser()).encode(), 0o644))
        for path, content, mode in wanted:
            same, old = present(path, content, mode)
            if not same and not module.check_mode:
                if str(path) == module.params["completion"]:  # where no shell has completions yet
                    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                install(path, content, mode)
            changed = changed or not same
            digests[str(path)] = hashlib.sha256(content).hexdigest()
            diff["before"] += f"{path}: {old}\n"
            diff["after"] += f"{path}: {version.VERSION} {digests[str(path)]}\n"
    except OSError as exc:
        module.fail_json(msg=f"Could not install the lifeboat command ({path}): {exc.strerror or exc}.")
    path = Path(module.params["path"])
    module.exit_json(changed=changed, path=str(path), sha256=digests[str(path)], diff=diff)


if __name__ == "__main__":
    main()
