# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that carries its own seal, so that an edit is noticed: manifests, recovery points, evidence.

And its signature, where one is made, so that a forgery is: by `ssh-keygen -Y`, https://man.openbsd.org/ssh-keygen.1#Y.
The key is the writer's, the trust in it is the reader's. This is not in tools/signature.py, which signs files: what
reads a document needs both, and each file goes along with thirty modules.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import io
import json
import os
import stat
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Optional, TypeVar

from ..base import filesystem, pipeline, typed
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..base.typed import Range

VERSION = (1, 0)
S = TypeVar("S", bound="Sealed")
MOST_SEQUENCE = 10**9
_ARMOUR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_LARGEST = 8192  # characters of a signature: one of RSA with 16,384 bits has fewer than 6,000


@dataclass(frozen=True)
class Signature:
    """What a signature says beyond the document, and itself.

    repository: in which it was published, by its marker. sequence, previous: its place in the chain of what one key
    signed of one component: 1 is the first, and `previous` is the seal of the one before it. value: what ssh-keygen
    made, in base64. It is of the canonical JSON of everything but itself and the seal; the seal is of this too.
    """

    repository: str
    sequence: Annotated[int, Range(1, MOST_SEQUENCE)]
    previous: str
    value: str = ""


class Sealed(ABC):
    """A dataclass that is written once, with the seal of its content in it; `what` and `remedy` are for errors.

    document: what it is called among the documents that are signed.
    """

    schema: ClassVar[str]
    document: ClassVar[str]
    what: ClassVar[str]
    remedy: ClassVar[str]
    id: str
    stack: str
    taken_at: datetime
    signature: Optional[Signature]

    @property
    @abstractmethod
    def written_at(self) -> datetime:
        """When it was written, which is not before the time that it is of."""

    def _body(self) -> dict[str, object]:
        """Without a field for a signature where there is none, as it was before there were signatures."""
        body = {"schema": self.schema, "version": list(VERSION), **typed.plain(self, nulls=True)}
        return {key: value for key, value in body.items() if key != "signature" or value is not None}

    def signed(self: S, signature: Signature, key: str) -> S:
        """The same, signed with the private key. Raises LifeboatError where it cannot be."""
        unsigned = replace(self, signature=replace(signature, value=""))  # type: ignore[type-var]
        value = sign(_unsigned(unsigned._body()), key, self.document)
        return replace(unsigned, signature=replace(signature, value=value))  # type: ignore[type-var]

    @property
    def seal(self) -> str:
        return seal(self._body())

    def to_bytes(self) -> bytes:
        body = self._body()
        return render({**body, "seal": seal(body)})

    @classmethod
    def error(cls, id: str, cause: str) -> IntegrityError:
        return IntegrityError(f"read the {cls.what}", id, cause, cls.remedy)


# Piece by piece: json.dumps would hold them all at once, which of a store with a thousand buckets is megabytes.
_READABLE = json.JSONEncoder(indent=1, ensure_ascii=False)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_SMALL = 1 << 16  # bytes; a document of this size is encoded as a whole, in a tenth of the time


def render(body: Mapping[str, object]) -> bytes:
    text = io.BytesIO()
    for piece in _READABLE.iterencode(body):
        text.write(piece.encode("utf-8", "backslashreplace"))  # a name's byte that is not UTF-8: JSON's own escape
    text.write(b"\n")
    return text.getvalue()


def seal(body: Mapping[str, object]) -> str:
    """SHA-256 over the canonical JSON of everything but the seal: an edited manifest no longer matches itself."""
    digest = hashlib.sha256()
    for piece in _CANONICAL.iterencode({key: value for key, value in body.items() if key != "seal"}):
        digest.update(piece.encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _measured(data: bytes) -> tuple[bool, str]:
    """Of JSON that can be read: whether its bytes are as render() writes them, and its seal. A document's signature
    is checked just before the document is read, and this is nearly all that either costs."""
    body = json.loads(data)
    if len(data) > _SMALL:
        return render(body) == data, seal(body)
    rest = canonical({key: value for key, value in body.items() if key != "seal"})
    return render(body) == data, filesystem.sha256(rest)


def canonical(body: Mapping[str, object]) -> bytes:
    """JSON of which there is one form only."""
    return _CANONICAL.encode(body).encode()


def _unsigned(body: Mapping[str, object]) -> bytes:
    """What is signed of a document."""
    signature = body["signature"]
    bound = {key: value for key, value in signature.items() if key != "value"} if isinstance(signature, dict) else {}
    return canonical({**{key: value for key, value in body.items() if key != "seal"}, "signature": bound})


@dataclass(frozen=True)
class _Head:
    schema: str
    version: tuple[int, ...]
    seal: str = ""


def unseal(kind: type[S], data: bytes, id: str, file: str) -> S:
    """What to_bytes() wrote. IntegrityError when it is broken, edited or another's, UsageError when it is too new."""

    def unlike(field: str, cause: str) -> LifeboatError:
        return kind.error(id, f"it is not a {kind.what}: {f'{field} {cause}'.strip()}")

    def wrong(field: str, cause: str) -> LifeboatError:
        return kind.error(id, f"{file}: {f'{field} {cause}'.strip()}")

    body = typed.load(data, unlike)
    head = typed.build(_Head, body, unlike, unknown="ignore")
    if head.schema != kind.schema:
        raise kind.error(id, f"its schema is {head.schema!r}, not {kind.schema!r}")
    if head.version[:1] != VERSION[:1]:
        if not head.version:
            raise unlike("version", "is empty")
        cause = f"its schema has version {head.version[0]}; this Lifeboat reads version {VERSION[0]}"
        remedy = "Upgrade Lifeboat on this host (lifeboat.dr.deploy), then try again."
        raise UsageError(f"read the {kind.what}", id, cause, remedy)
    whole, right = _measured(data)
    if not whole:  # a byte more or less outside the values would not break the seal
        raise kind.error(id, "its bytes are not as they were written")
    if head.seal != right:
        raise kind.error(id, "it was edited: its seal does not match its content")
    found = typed.build(kind, body, wrong, unknown="ignore")
    if found.id != id:
        raise kind.error(id, f"it is the {kind.what} {found.id}")
    return found


# Signatures. Nothing here decides who may sign: repositories.py does.


class Opened(NamedTuple):
    """A document whose seal is right, read as far as its signature needs. key: that signed it, as in a public key's
    file, empty where nobody did. message: what was signed."""

    seal: str
    stack: str
    id: str
    component: str
    signature: Optional[Signature]
    key: str
    message: bytes


@dataclass(frozen=True)
class _Named:
    id: str
    seal: str
    stack: str = ""
    component: str = ""
    signature: Optional[Signature] = None


def opened(data: bytes, subject: str, document: str, *, unsigned: bool = False) -> Opened:
    """Raises IntegrityError where the bytes are not those of a document, or its signature is not in the one form.

    unsigned: whatever its signature is does not matter.
    """

    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("check the signature", subject, f"{field} {cause}".strip())

    body = typed.load(data, wrong)
    named = typed.build(_Named, body, wrong, unknown="ignore")
    if _measured(data) != (True, named.seal):
        raise wrong("", "its seal does not match its content")
    if named.signature is None or unsigned:
        return Opened(named.seal, named.stack, named.id, named.component, None, "", b"")
    if sorted(body["signature"]) != sorted(vars(named.signature)):
        raise wrong("signature", "has other fields than a signature has")
    key = _key_of(named.signature.value, document, wrong)
    return Opened(named.seal, named.stack, named.id, named.component, named.signature, key, _unsigned(body))


def signed_record(body: Mapping[str, object], signature: Signature, key: str, document: str) -> bytes:
    """A document without a seal of its own, which may be written again: all of it is signed."""
    bound = {name: value for name, value in typed.plain(signature).items() if name != "value"}
    value = sign(canonical({**body, "signature": bound}), key, document)
    return render({**body, "signature": {**bound, "value": value}})


def opened_record(data: bytes, subject: str, document: str) -> Opened:
    """The like of signed_record(). seal: the SHA-256 of its bytes."""

    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("check the signature", subject, f"{field} {cause}".strip())

    body = typed.load(data, wrong)
    named = typed.build(_Named, body, wrong, unknown="ignore")
    signature, digest = named.signature, filesystem.sha256(data)
    if signature is None:
        return Opened(digest, named.stack, named.id, named.component, None, "", b"")
    if render(body) != data or sorted(body["signature"]) != sorted(vars(signature)):
        raise wrong("", "its bytes are not as they were written")
    key = _key_of(signature.value, document, wrong)
    bound = {name: value for name, value in body["signature"].items() if name != "value"}
    return Opened(
        digest, named.stack, named.id, named.component, signature, key, canonical({**body, "signature": bound})
    )


def unarmoured(text: str, subject: str, document: str) -> tuple[str, str]:
    """The signature in base64 that ssh-keygen wrote into a file, and the key that it names."""

    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("check the signature", subject, f"{field} {cause}".strip())

    lines = text.strip().splitlines()
    if lines[:1] != [_ARMOUR[0]] or lines[-1:] != [_ARMOUR[1]]:
        raise wrong("signature", "is not what `ssh-keygen -Y sign` writes")
    value = "".join(lines[1:-1])
    return value, _key_of(value, document, wrong)


def key_of(value: str, subject: str, document: str) -> str:
    """The key that a signature in base64 names; nothing is proved by that. Raises IntegrityError for another form."""

    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("check the signature", subject, f"{field} {cause}".strip())

    return _key_of(value, document, wrong)


def namespace(document: str) -> str:
    """A signature of one type of document is none of another: https://man.openbsd.org/ssh-keygen.1#n"""
    return f"lifeboat-{document}@lifeboat.dr"


def _key_of(value: str, document: str, wrong: typed.Wrong) -> str:
    """The key that a signature names; nothing is proved by that yet. The form is PROTOCOL.sshsig's, and no other."""
    try:
        raw = base64.b64decode(value, validate=True) if len(value) <= _LARGEST else b""
        if base64.b64encode(raw).decode() != value or raw[:10] != b"SSHSIG\0\0\0\1":
            raise ValueError
        key, named, reserved, digest, made = fields = _strings(raw[10:])
        (kind, *_more) = _strings(key)
    except (ValueError, binascii.Error, struct.error) as exc:
        raise wrong("signature.value", "is not a signature as ssh-keygen writes it") from exc
    if len(fields) != 5 or reserved or digest not in (b"sha256", b"sha512") or not made:
        raise wrong("signature.value", "is not a signature as ssh-keygen writes it")
    if named != namespace(document).encode():
        raise wrong("signature.value", f"is for {ascii(named)[2:-1][:80]}, not for {namespace(document)}")
    return f"{kind.decode('ascii', 'replace')} {base64.b64encode(key).decode()}"


def _strings(raw: bytes) -> list[bytes]:
    """RFC 4251, section 5: each with its length before it."""
    found = []
    while raw:
        (length,) = struct.unpack(">I", raw[:4])
        if length > len(raw) - 4:
            raise ValueError
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return found


_SIGN = "sign the document"
_QUIET = {"SSH_ASKPASS_REQUIRE": "never", "SSH_AUTH_SOCK": ""}  # a passphrase fails at once, and no agent is asked
_REMEDY = (
    "Correct lifeboat_signing_key and deploy: a private key on this host, mode 0600, without a passphrase; deploy makes"
    " one where none is. Nothing was published."
)


def _private(key: str) -> None:
    """Refuse a key that others can read or replace."""
    try:
        found = Path(key).lstat()
    except FileNotFoundError as exc:
        raise NotFoundError(_SIGN, key, "there is no such key", _REMEDY) from exc
    except OSError as exc:
        raise LifeboatError(_SIGN, key, exc.strerror or str(exc), _REMEDY) from exc
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        raise UsageError(_SIGN, key, "it is not a private file of root's (0600)", _REMEDY)


def public(key: str) -> str:
    """The public part of a private key, `ssh-ed25519 AAAA…`."""
    _private(key)
    status, out, err = pipeline.probe(Command(["ssh-keygen", "-y", "-P", "", "-f", key], _QUIET), timeout=30)
    words = out.split()
    if status or len(words) < 2:
        raise LifeboatError("read the signing key", key, _last(err, status), _REMEDY)
    return " ".join(words[:2])


def sign(message: bytes, key: str, document: str) -> str:
    """The signature in base64. Neither the message nor the key is in argv."""
    _private(key)
    words = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace(document)]
    status, out, err = pipeline.probe(Command(words, _QUIET), timeout=30, given=message)
    if status:
        raise LifeboatError(_SIGN, f"{document}, with {key}", _last(err, status), _REMEDY)
    return unarmoured(out, f"{document}, with {key}", document)[0]


def verify(message: bytes, value: str, document: str, key: str) -> str:
    """Why this is not that key's signature of the message; empty where it is. The key is one that a caller trusts.

    Raises LifeboatError where ssh-keygen cannot be asked.
    """
    words = ["ssh-keygen", "-q", "-Y", "verify", "-n", namespace(document), "-I", "signer"]
    attempted = "check the signature"
    with explained(attempted, document), filesystem.scratch("lifeboat-signature-") as made:
        allowed, signature = Path(made, "allowed"), Path(made, "signature")
        allowed.write_text(f'signer namespaces="{namespace(document)}" {key}\n', encoding="ascii")
        signature.write_text("\n".join([_ARMOUR[0], value, _ARMOUR[1], ""]), encoding="ascii")
        command = Command([*words, "-f", str(allowed), "-s", str(signature)], _QUIET)
        status, _out, err = pipeline.probe(command, timeout=30, given=message)
    if status in (124, 126, 127):
        raise LifeboatError(attempted, document, err, "Install openssh-client.")
    return _last(err, status) if status else ""


def _last(err: str, status: int) -> str:
    return (err.strip().splitlines() or [f"ssh-keygen ended with {status}"])[-1]
