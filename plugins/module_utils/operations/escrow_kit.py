# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The escrow kit: what to know besides the keys, to open the vault from any machine. There is no secret in it."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..base import typed
from ..base.errors import UsageError
from ..settings.config import Config, from_mapping
from ..settings.parts import RetentionSettings, S3Settings

_VAULT = ("endpoint_url", "region", "ca_bundle", "objects_bucket", "repository_bucket", "prefix")
_ENVIRONMENT = {
    "vault_access_key": ("LIFEBOAT_VAULT_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    "vault_secret_key": ("LIFEBOAT_VAULT_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"),
}
_READ = "read the escrow kit"


@dataclass(frozen=True)
class Kit:
    """What kit() writes, as somebody brings it back."""

    stack: str = ""
    alarms: Mapping[str, object] = field(default_factory=dict)
    vault: Mapping[str, object] = field(default_factory=dict)
    repository: Mapping[str, object] = field(default_factory=dict)
    signers: tuple[Mapping[str, object], ...] = ()
    adopted: tuple[Mapping[str, object], ...] = ()
    retention: Mapping[str, object] = field(default_factory=dict)
    timezone: str = ""


def _wrong(where: str, cause: str) -> UsageError:
    return UsageError(_READ, where, cause, "Write it with: lifeboat escrow --print-kit")


def kit(config: Config) -> dict[str, object]:
    """What of a stack's configuration is needed to look into its vault."""
    one = config.vault
    vault = {**{name: getattr(one, name) for name in _VAULT}, "prefix": one.prefix or config.stack}
    # What is escrowed must open last night's point; kits of earlier versions take the default for its age.
    alarms = {"backup_age_hours": config.alarms.backup_age_hours}
    found: dict[str, object] = {"stack": config.stack, "alarms": alarms, "vault": vault}
    if isinstance(config.repository, S3Settings) or config.repository.folders:
        settings = typed.plain(config.repository)
        found["repository"] = {key: value for key, value in settings.items() if value and key != "staging_root"}
    # By which a look knows what was removed because its time was over; kits of earlier versions take the defaults.
    rules = {name: value for name, value in vars(config.retention).items() if value != getattr(RetentionSettings, name)}
    found.update({"retention": rules} if rules else {})
    found.update({"timezone": config.timezone} if config.timezone != "UTC" else {})
    for name in ("signers", "adopted"):  # whose recovery points are believed; a kit is as trusted as an inventory
        found.update({name: typed.plain(getattr(config, name))} if getattr(config, name) else {})
    return found


def options(parser: argparse.ArgumentParser) -> None:
    """What `lifeboat escrow` takes where there is no configuration: a kit, single settings, where the keys are."""
    parser.add_argument("point", nargs="?", default="latest", help="the recovery point (default: the newest)")
    parser.add_argument("--identity", default="", metavar="FILE", help="the age identity; - reads it from stdin")
    parser.add_argument(
        "--credentials", default="", metavar="FILE",
        help="JSON of mode 0600 with vault_access_key and vault_secret_key (default: the environment, "
        "LIFEBOAT_VAULT_ACCESS_KEY and LIFEBOAT_VAULT_SECRET_KEY)",
    )  # fmt: skip
    parser.add_argument("--kit", default="", metavar="FILE", help="what `lifeboat escrow --print-kit` wrote")
    parser.add_argument(
        "--print-kit", action="store_true", help="print the kit of this host's stack; no secret is in it"
    )
    parser.add_argument("--endpoint-url", default="", help="the vault's endpoint")
    parser.add_argument("--region", default="", help="the vault's region")
    parser.add_argument("--ca-bundle", default="", help="the CA of the vault's certificate")
    copies = "the bucket with the copies of the repository"
    parser.add_argument("--bucket", dest="repository_bucket", default="", metavar="BUCKET", help=copies)
    parser.add_argument(
        "--prefix", default="", help="the prefix of the copies in that bucket (default: the stack's name)"
    )
    parser.add_argument("--objects-bucket", default="", help="the bucket with the mirror of the stack's bucket")
    parser.add_argument(
        "--signing-key", default="", metavar="FILE",
        help="sign the record with it: a private SSH key of this machine, 0600, without a passphrase, whose public part"
        " lifeboat_signers names with documents: [escrow]",
    )  # fmt: skip
    parser.add_argument(
        "--look", action="store_true",
        help="without an identity: compare the vault with what this machine saw there the last time, and fail where"
        " something was hidden, removed or overwritten; for a timer",
    )  # fmt: skip
    parser.add_argument(
        "--seen", type=Path, default=None, metavar="FILE",
        help="where --look remembers that (default: /var/lib/lifeboat/<stack>/escrow-look.json)",
    )  # fmt: skip
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="ID",
        help="--look: what is reported of this backup was intended",
    )
    parser.add_argument("--no-record", action="store_true", help="write nothing into the vault")


def signing(config: Config, path: str) -> Config:
    """The same with the key that signs the record, where one is named."""
    return replace(config, signing_key=str(Path(path).absolute())) if path else config


def names_vault(arguments: argparse.Namespace) -> bool:
    """Is the vault named here? Else this host's own configuration names it."""
    return bool(arguments.kit or arguments.repository_bucket)


def configured(arguments: argparse.Namespace) -> Config:
    """A configuration for the vault alone, out of the kit and the options."""
    kit = typed.build(Kit, _json(arguments.kit) if arguments.kit else {}, _wrong, unknown="ignore")
    vault = {**kit.vault, **{name: value for name in _VAULT if (value := getattr(arguments, name))}}
    stack = arguments.stack or kit.stack
    if not stack:
        raise UsageError(_READ, arguments.kit or "options", "the stack is not named", "Name it with --stack.")
    known = {"repository": kit.repository, "retention": kit.retention, "timezone": kit.timezone}
    more = {name: value for name, value in known.items() if value}
    # The runtime is not used: nothing of the stack runs here.
    trusted = {"signers": kit.signers, "adopted": kit.adopted}
    settings = {"stack": stack, "alarms": kit.alarms, "vault": vault, "runtime": {"type": "host"}, **more, **trusted}
    keys = credentials(arguments.credentials)
    mine = {"s3_access_key": keys["vault_access_key"], "s3_secret_key": keys["vault_secret_key"]}
    return from_mapping(settings, {**mine, **keys}, arguments.kit or "options")


def credentials(path: str) -> dict[str, str]:
    """The vault's keys, from a file that nobody else may read, or from the environment."""
    attempted = "read the vault's credentials"
    if path:
        _refuse_open(Path(path), attempted)
        body = _json(path)
        found = {name: str(body.get(name) or "") for name in _ENVIRONMENT}
    else:
        found = {name: next(filter(None, map(os.environ.get, names)), "") for name, names in _ENVIRONMENT.items()}
    lacking = [name for name, value in found.items() if not value]
    if lacking:
        remedy = "Set LIFEBOAT_VAULT_ACCESS_KEY and LIFEBOAT_VAULT_SECRET_KEY, or name a file with --credentials."
        raise UsageError(attempted, path or "environment", f"there is no {' and no '.join(lacking)}", remedy)
    return found


def identity(path: str) -> str:
    """The age identity as text. `-`: from standard input, which is not echoed only where it comes from a file."""
    attempted = "read the identity"
    if not path:
        remedy = "Name its file with --identity, or - for standard input."
        raise UsageError(attempted, "options", "none is given", remedy)
    try:
        if path == "-":
            return sys.stdin.read()
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise UsageError(attempted, path, why or str(exc), "Name the file that age-keygen wrote.") from exc


def _refuse_open(path: Path, attempted: str) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as exc:
        raise UsageError(attempted, str(path), exc.strerror or str(exc), "Name the file with --credentials.") from exc
    if mode & 0o077:
        raise UsageError(attempted, str(path), f"others may read it (mode {mode:04o})", f"chmod 600 {path}")


def _json(path: str) -> dict[str, object]:
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise UsageError(_READ, path, exc.strerror or str(exc), "Name the file with --kit.") from exc
    body = typed.load(data, lambda _field, _cause: _wrong(path, "it is no JSON"))  # not shown: there may be a key in it
    if not isinstance(body, Mapping):
        raise _wrong(path, "it is no JSON object")
    return dict(body)
