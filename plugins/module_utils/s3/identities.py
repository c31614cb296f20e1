# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identities of an object store, out of what a server or a file says of them, in a form that can be compared.

    {"user webapp": {"status": "enabled", "policies": "[\\"uploads-rw\\"]", "secret key": "<SHA-256>"}, ...}

Policies and lists are compared as sets: MinIO tells their arrays in random order. Whoever can write an archive is
hostile: a member that is not known, given twice or too large is refused, and nothing is unpacked to a disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional, TypeVar

from ..base import typed
from ..base.errors import IntegrityError, LifeboatError
from ..base.text import named

LIMIT = 64 << 20  # bytes, packed or unpacked
_ON = ("on", "true", "1", "yes", "enabled")
_MANY = 100_000  # members, which a zip can claim to have for 46 bytes each
MINIO, SEAWEEDFS = "minio", "seaweedfs"
SECRET = "secret key"
USER, GROUP, POLICY, KEY, EXTERNAL, SETTING = "user", "group", "policy", "access key", "external user", "setting"
BUILT_IN = ("consoleAdmin", "diagnostics", "readonly", "readwrite", "writeonly")
_FOLDER = "iam-assets"
_POLICIES, _USERS, _GROUPS, _ACCOUNTS = "policies.json", "users.json", "groups.json", "svcaccts.json"
_OF_USERS, _OF_GROUPS, _OF_EXTERNAL = "user_mappings.json", "group_mappings.json", "stsuser_mappings.json"
_EXTERNAL_GROUPS = "stsgroup_mappings.json"
_MEMBERS = (_POLICIES, _USERS, _GROUPS, _ACCOUNTS, _OF_USERS, _OF_GROUPS, _OF_EXTERNAL, _EXTERNAL_GROUPS)
_PLURALS = {"policy": "policies"}
_TWICE = ("exp", "sessionPolicy")  # claims
QUOTA = "quota.json"
# What MinIO says of a bucket, one file for each setting; a newer one may have more settings.
_OF_A_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}/[a-z-]{1,40}\.(json|xml)")
Form = Mapping[str, Mapping[str, str]]
T = TypeVar("T")


@dataclass(frozen=True)
class _User:
    secretKey: str = ""
    status: str = ""


@dataclass(frozen=True)
class _Group:
    status: str = ""
    members: Optional[tuple[str, ...]] = None


@dataclass(frozen=True)
class _Account:
    parent: str
    secretKey: str = ""
    status: str = ""
    groups: Optional[tuple[str, ...]] = None
    claims: Optional[Mapping[str, object]] = None
    sessionPolicy: object = None
    expiration: Optional[str] = None
    name: str = ""
    description: str = ""


@dataclass(frozen=True)
class _Mapping:
    policy: str = ""


@dataclass(frozen=True)
class _Credential:
    accessKey: str = ""
    secretKey: str = ""
    status: str = ""


@dataclass(frozen=True)
class _Identity:
    name: str
    credentials: Optional[tuple[_Credential, ...]] = None
    actions: Optional[tuple[str, ...]] = None
    policyNames: Optional[tuple[str, ...]] = None
    disabled: bool = False
    account: object = None


@dataclass(frozen=True)
class _Policy:
    name: str
    content: str = ""


@dataclass(frozen=True)
class Counts:
    """How many there are. policies: without those that MinIO has built in. access_keys: of service accounts too."""

    users: int = 0
    groups: int = 0
    policies: int = 0
    access_keys: int = 0

    def __str__(self) -> str:
        words = ("user", "group", "policy", "access key")
        numbers = (self.users, self.groups, self.policies, self.access_keys)
        return ", ".join(map(many, numbers, words))


def many(number: int, word: str) -> str:
    """1 policy, 2 policies."""
    return f"{number} {word if number == 1 else _PLURALS.get(word, f'{word}s')}"


def of_minio(archive: bytes) -> Form:
    """Return what `export-iam` answers. Raises IntegrityError."""
    files = _unzip(archive, {f"{_FOLDER}/{name}": name for name in _MEMBERS}, "identities")
    lacks = [name for name in (_POLICIES, _USERS, _GROUPS, _ACCOUNTS) if name not in files]
    if lacks:
        raise _wrong("", f"the archive lacks {', '.join(lacks)}")
    found: dict[str, dict[str, str]] = {}
    for name, document in _parse_entries(object, files, _POLICIES).items():
        found[f"{POLICY} {name}"] = {"document": canonical(document)}
    for name, user in _parse_entries(_User, files, _USERS).items():
        found[f"{USER} {name}"] = {"status": user.status, SECRET: _digest(user.secretKey)}
    for name, group in _parse_entries(_Group, files, _GROUPS).items():
        found[f"{GROUP} {name}"] = {"status": group.status, "members": canonical(list(group.members or ()))}
    for name, account in _parse_entries(_Account, files, _ACCOUNTS).items():
        # Two claims say again, in a form of their own, what is compared below.
        claims = {claim: told for claim, told in (account.claims or {}).items() if claim not in _TWICE}
        until = (account.expiration or "")[:19]
        found[f"{KEY} {name}"] = {
            "parent": account.parent, "status": account.status, SECRET: _digest(account.secretKey),
            "groups": canonical(list(account.groups or ())), "claims": canonical(claims),
            "policy": canonical(account.sessionPolicy), "expiration": until if until > "1971" else "",
            "name": account.name, "description": account.description,
        }  # fmt: skip
    mappings = ((_OF_USERS, USER), (_OF_GROUPS, GROUP), (_OF_EXTERNAL, EXTERNAL), (_EXTERNAL_GROUPS, EXTERNAL))
    for member, kind in mappings:
        for name, mapping in _parse_entries(_Mapping, files, member).items():
            policies = canonical([text.strip() for text in mapping.policy.split(",") if text.strip()])
            found.setdefault(f"{kind} {name}", {})["policies"] = policies
    return found


def of_seaweedfs(data: bytes) -> Form:
    """Return what the file of SeaweedFS' option -s3.config says. Raises IntegrityError."""
    if len(data) > LIMIT:
        raise _wrong("", f"it has more than {LIMIT} bytes")
    body = typed.load(data, _wrong)
    if not isinstance(body, Mapping):
        raise _wrong("", "wants a mapping")
    found: dict[str, dict[str, str]] = {}
    identities = typed.build(tuple[_Identity, ...], body.get("identities", ()), _wrong, "identities", unknown="ignore")
    for identity in identities:
        found[f"{USER} {identity.name}"] = {
            "status": "disabled" if identity.disabled else "enabled", "account": canonical(identity.account),
            "actions": canonical(list(identity.actions or ())), "policies": canonical(list(identity.policyNames or ())),
        }  # fmt: skip
        for key in identity.credentials or ():
            told = {"parent": identity.name, "status": key.status, SECRET: _digest(key.secretKey)}
            found[f"{KEY} {key.accessKey}"] = told
    for policy in typed.build(tuple[_Policy, ...], body.get("policies", ()), _wrong, "policies", unknown="ignore"):
        found[f"{POLICY} {policy.name}"] = {"document": _document(policy.content)}
    for name, value in body.items():
        if name not in ("identities", "policies"):
            found[f"{SETTING} {name}"] = {"value": canonical(value)}
    return found


FORMS = {MINIO: of_minio, SEAWEEDFS: of_seaweedfs}


def counts(form: Form) -> Counts:
    def count(kind: str) -> int:
        return sum(name.startswith(f"{kind} ") for name in form)

    built_in = sum(f"{POLICY} {name}" in form for name in BUILT_IN)
    return Counts(count(USER), count(GROUP), count(POLICY) - built_in, count(KEY))


def digest(form: Form) -> str:
    """Return the SHA-256 of all but the secret keys, so that it does not help to guess one."""
    open_ = {name: {field: value for field, value in told.items() if field != SECRET} for name, told in form.items()}
    return hashlib.sha256(json.dumps(open_, sort_keys=True).encode()).hexdigest()


def differences(expected: Form, actual: Form) -> list[str]:
    """List what differs, one line per identity, without values. What came in addition is `added()`."""
    lines = []
    for name, told in sorted(expected.items()):
        have = actual.get(name)
        if have is None:
            lines.append(f"the {named(name)} is missing")
            continue
        differ = sorted(field for field in {*told, *have} if told.get(field) != have.get(field))
        lines += [f"the {named(name)} has another {' and another '.join(differ)}"] if differ else []
    return lines


def added(expected: Form, actual: Form) -> list[str]:
    """List the names of what is there and was not expected."""
    return [named(name) for name in sorted(actual) if name not in expected]


def not_carried(form: Form, now: datetime) -> dict[str, str]:
    """Return the access keys that MinIO's import would bring back otherwise than they were, and why.

    It makes every service account enabled, a key that was locked out too, and refuses one that has expired:
    https://github.com/minio/minio/blob/master/cmd/admin-handlers-users.go (importIAM).
    """
    found = {}
    for name, told in form.items():
        until = told.get("expiration", "")
        if told.get("status") == "off":
            found[name] = "it is disabled, and an import would enable it"
        elif until and until <= f"{now:%Y-%m-%dT%H:%M:%S}":
            found[name] = f"it expired {until}"
    return found


def importable(archive: bytes, *, without: Collection[str]) -> bytes:
    """Return an export without these access keys and users: one that the server refuses ends a whole import."""
    names = {f"{_FOLDER}/{name}": f"{_FOLDER}/{name}" for name in _MEMBERS}
    files = _unzip(archive, names, "identities")
    for member in (_USERS, _ACCOUNTS):
        body = typed.load(files[f"{_FOLDER}/{member}"], _wrong) or {}
        kept = {name: value for name, value in body.items() if name not in without}
        files[f"{_FOLDER}/{member}"] = json.dumps(kept).encode()
    return packed(files)


def knows(form: Form, access_key: str) -> bool:
    """Is it the key of a user or of a service account?"""
    return f"{USER} {access_key}" in form or f"{KEY} {access_key}" in form


def quotas(archive: bytes) -> dict[str, bytes]:
    """By bucket, the quota that is set, as the server says it; out of what `export-bucket-metadata` answers."""
    found = {}
    for name, data in _unzip(archive, None, "buckets").items():
        bucket, _slash, file = name.partition("/")
        if file == QUOTA:
            told = typed.load(data, _wrong)
            if isinstance(told, Mapping) and told.get("quota"):
                found[bucket] = data
    return found


def buckets(archive: bytes) -> frozenset[str]:
    """Return which buckets the server has; out of what `export-bucket-metadata` answers."""
    return frozenset(name.partition("/")[0] for name in _unzip(archive, None, "buckets"))


def uses(archive: bytes, environment: Mapping[str, str]) -> list[str]:
    """Return which buckets use a part of the server's own configuration, which no export in clear holds.

    environment: of the server, which is recovered with its service. A notification target that it configures is in it.
    """
    found = []
    for name, data in sorted(_unzip(archive, None, "buckets").items()):
        bucket, _slash, file = name.partition("/")
        if file == "notification.xml" and _needs_targets(data, environment):
            found.append(f"notification targets (bucket {bucket})")
        elif file == "lifecycle.xml" and re.search(rb"<(NoncurrentVersion)?Transition>", data):
            found.append(f"tiers (bucket {bucket})")
        elif file == "replication.xml" and b"<Rule>" in data:
            found.append(f"replication targets (bucket {bucket})")
    return found


def _needs_targets(notification: bytes, environment: Mapping[str, str]) -> bool:
    """Does a bucket notify a target that is not configured by the server's environment?

    https://github.com/minio/minio/blob/master/docs/bucket/notifications/README.md: `arn:minio:sqs::PRIMARY:webhook` is
    that of MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY, and `_` the identifier of one that has no name.
    """
    kinds = rb"<(?:Queue|Topic|CloudFunction)"
    count = len(re.findall(kinds + rb"Configuration>", notification))
    targets = re.findall(kinds + rb">\s*arn:minio:sqs:[^:<]*:([^:<]+):(\w+)\s*<", notification)
    known = 0
    for identifier, kind in targets:
        service = {"postgresql": "postgres"}.get(kind.decode(), kind.decode()).upper()
        ending = "" if identifier == b"_" else f"_{identifier.decode(errors='replace')}"
        known += environment.get(f"MINIO_NOTIFY_{service}_ENABLE{ending}", "").lower() in _ON
    return known < count


def packed(members: Mapping[str, bytes]) -> bytes:
    """Return a zip of these files: same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpacked(archive: bytes, names: Sequence[str]) -> dict[str, bytes]:
    """Return the files of a zip that can hold no others than these. Raises IntegrityError."""
    return _unzip(archive, {name: name for name in names}, "identities")


def canonical(value: object) -> str:
    """JSON of a document whose lists are sets, and where a list of one is as good as that one."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _canonical(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        inner = sorted({json.dumps(_canonical(item), sort_keys=True) for item in value})
        return json.loads(inner[0]) if len(inner) == 1 else [json.loads(item) for item in inner]
    return value


def _document(text: str) -> str:
    try:
        return canonical(typed.load(text, _wrong))
    except LifeboatError:
        return text


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _parse_entries(kind: type[T], files: Mapping[str, bytes], name: str) -> dict[str, T]:
    def wrong(field: str, cause: str) -> LifeboatError:
        return _wrong(f"{name}: {field}" if field else name, cause)

    data = files.get(name)
    body = typed.load(data, wrong) if data else None
    if body is None:  # as Go writes a map that was never filled
        return {}
    told = typed.build(dict[str, object], body, wrong)
    return {key: typed.build(kind, value, wrong, key, unknown="ignore") for key, value in told.items()}


def _unzip(data: bytes, known: Optional[Mapping[str, str]], what: str) -> dict[str, bytes]:
    """Return the members of an archive; known: what can be in it, by the name in the archive. None: metadata of
    buckets."""
    if len(data) > LIMIT or data.count(b"PK\x01\x02") > _MANY:
        raise _wrong("", f"the archive of the {what} is too large")
    found: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                text = member.filename
                name = (text if _OF_A_BUCKET.fullmatch(text) else "") if known is None else known.get(text, "")
                if not name or name in found:
                    cause = "is in it twice" if name else "does not belong there"
                    raise _wrong("", f"in the archive of the {what} {typed.shown(text)} {cause}")
                with archive.open(member) as file:
                    found[name] = file.read(LIMIT - total + 1)
                total += len(found[name])
                if total > LIMIT:
                    raise _wrong("", f"the archive of the {what} unpacks to more than {LIMIT} bytes")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as exc:
        raise _wrong("", f"the archive of the {what} is cut or damaged: {exc}") from exc
    return found


def _wrong(where: str, cause: str) -> IntegrityError:
    return IntegrityError(
        "read the identities", "the object store", f"{where} {cause}".strip(),
        "Look at the server's log, or choose another backup.",
    )  # fmt: skip
