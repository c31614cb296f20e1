# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption by age (https://age-encryption.org), nothing of our own: the host holds recipients only.

Recipients are no secret and go into argv. An identity is the secret: it comes as text and goes to age's standard input,
never into argv, the environment or a file.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Optional

from ..base import pipeline
from ..base.errors import IntegrityError, LifeboatError, UnverifiedError, UsageError, unable
from ..base.pipeline import Command, Sink

_INTRO = b"age-encryption.org/v1\n"
_ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----"
_STANZA = re.compile(rb"-> (\S+)")
_MAC = re.compile(rb"--- [A-Za-z0-9+/]{43}\n")
_HEADER = 1 << 20
_SECRET_KEY = re.compile(r"(?m)^\s*(AGE-SECRET-KEY-1|AGE-PLUGIN-)")
_WHOLE = "Give the file that age-keygen wrote, whole."
_ANOTHER = "Choose another backup (lifeboat list), or fetch the vault's copy."
_NOISE = "report unexpected or unhelpful errors"


def encrypt(source: IO[bytes], recipients: Sequence[str], sink: Sink, *, subject: str, timeout: float = 600) -> None:
    """Encrypt a stream to all the recipients; each of them alone can read it."""
    _require("encrypt", subject)
    words = [word for recipient in recipients for word in ("--recipient", recipient)]
    try:
        pipeline.run(
            [Command(["age", "--encrypt", *words])], attempted="encrypt", subject=subject, source=source, sink=sink,
            timeout=timeout,
            remedy="Correct lifeboat_config.recipients; `age-keygen -y` prints the recipient of a key.",
        )  # fmt: skip
    except LifeboatError as exc:
        raise LifeboatError(exc.attempted, exc.subject, _plain(exc.cause), exc.remedy) from exc


def decrypt(
    path: Path, identity: str, sink: Sink, *, subject: str, recipients: Sequence[str] = (), timeout: float = 600
) -> None:
    """Decrypt a file to its end. What reached the sink counts only if this returns: a cut file fails at its end.

    recipients: for whom it was sealed, as its manifest says; an age file itself does not tell. Raises UsageError where
    the identity is none or another's, IntegrityError where the file is damaged, UnverifiedError where age is missing.
    """
    check_identity(identity)
    _require("decrypt", subject)
    try:
        pipeline.run(
            [Command(["age", "--decrypt", "--identity", "-", str(path)])], attempted="decrypt", subject=subject,
            source=io.BytesIO(identity.encode()), sink=sink, timeout=timeout,
        )  # fmt: skip
    except LifeboatError as exc:
        raise _explained(exc, path, identity, subject, recipients) from exc


def _explained(exc: LifeboatError, path: Path, identity: str, subject: str, recipients: Sequence[str]) -> LifeboatError:
    if isinstance(exc, IntegrityError):  # the sink's
        return exc
    cause = _plain(exc.cause)
    if exc.exit_status is None or unable(exc.exit_status):  # no time, no memory: nothing of what is in the file
        return UnverifiedError("decrypt", subject, cause, exc.remedy)
    if "no identity matched" in cause:
        given = recipients_of(identity)
        # A damaged header stanza looks like a wrong key, so that the right one must not be called wrong.
        if recipients and set(given) & set(recipients):
            cause = f"the key is the right one ({', '.join(given)}) and does not open it: its header is damaged"
            return IntegrityError("decrypt", subject, cause, _ANOTHER)
        own = f"the key given is that of {', '.join(given)}; " if given else ""
        for_whom = f"it was sealed for {', '.join(recipients)}" if recipients else f"it has {_count(path)} recipients"
        return WrongKeyError(
            "decrypt", subject, f"no identity matched any of the recipients: {own}{for_whom}",
            "Give the identity whose recipient is named here; `age-keygen -y` prints that of a key.",
        )  # fmt: skip
    if "unknown identity type" in cause or "no secret keys found" in cause or "malformed secret key" in cause:
        return WrongKeyError("read the identity", "standard input", cause, _WHOLE)
    return IntegrityError("decrypt", subject, f"it is cut or damaged: {cause}", _ANOTHER)


class WrongKeyError(UsageError):
    """The identity that was given is none, or opens what is another's. It says nothing of what it was to open."""


def decrypt_bytes(path: Path, identity: str, *, subject: str, recipients: Sequence[str] = (), limit: int) -> bytes:
    """As decrypt(), into memory, so that no plain secret touches a disk."""
    kept = _Kept(limit, subject)
    decrypt(path, identity, kept, subject=subject, recipients=recipients)
    return bytes(kept.data)


class _Kept:
    def __init__(self, limit: int, subject: str) -> None:
        self.data = bytearray()
        self._limit, self._subject = limit, subject

    def write(self, data: bytes, /) -> None:
        self.data += data
        if len(self.data) > self._limit:
            raise IntegrityError("decrypt", self._subject, f"it holds more than {self._limit} bytes")


def check_identity(identity: str) -> None:
    """Refuse what cannot be an identity before age is asked, which would ask a terminal for a passphrase.

    Never repeats what it was given.
    """
    problem = _problem(identity.strip())
    if problem:
        raise UsageError("read the identity", "the key that was given", *problem)


def _problem(text: str) -> Optional[tuple[str, str]]:
    """Why age cannot use the text as an identity by itself, and what to do; None where it may."""
    if not text:
        return "it is empty", _WHOLE
    if text.startswith((_ARMOR, _INTRO.decode().strip())) or "ENCRYPTED PRIVATE KEY" in text:
        remedy = "Decrypt it first and pass it through: age --decrypt key.age | lifeboat escrow --identity - …"
        return "it is protected by a passphrase", remedy
    if "OPENSSH PRIVATE KEY-----" in text and b"bcrypt" in _openssh(text):
        remedy = "Give a copy without one (ssh-keygen -p), in memory only: /dev/shm."
        return "it is an ssh key protected by a passphrase", remedy
    if _SECRET_KEY.search(text) or "PRIVATE KEY-----" in text:
        return None
    plain = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if plain and all(line.strip().startswith(("age1", "ssh-")) for line in plain):
        remedy = "Give the identity that belongs to it: the file with the line AGE-SECRET-KEY-1…"
        return "it is a recipient, which only encrypts", remedy
    return "there is no AGE-SECRET-KEY-1… and no private key in it", _WHOLE


def _openssh(text: str) -> bytes:
    """The head of an OpenSSH private key, where it says how it is encrypted."""
    head = "".join(line.strip() for line in text.splitlines() if "-----" not in line)[:160]
    try:
        return base64.b64decode(head[: len(head) // 4 * 4])
    except ValueError:
        return b""


def recipients_of(identity: str) -> list[str]:
    """The recipients of age identities; none where they cannot be told (ssh keys, or age-keygen is missing)."""
    if not shutil.which("age-keygen") or not _SECRET_KEY.search(identity):
        return []
    try:
        text = pipeline.output(
            Command(["age-keygen", "-y"]), attempted="read the identity", subject="standard input",
            source=io.BytesIO(identity.encode()), timeout=30,
        )  # fmt: skip
    except LifeboatError:
        return []
    return text.split()


def stanzas(stream: IO[bytes], subject: str) -> tuple[str, ...]:
    """What kinds of recipients the header of an age file names, one word for each. IntegrityError where it is none."""
    data = stream.read(_HEADER)
    mac = _MAC.search(data)
    if not data.startswith(_INTRO) or mac is None:
        raise IntegrityError("read the age header", subject, "it is no age file, or its header is cut or damaged")
    kinds = tuple(item.decode("ascii", "replace") for item in _STANZA.findall(data[: mac.start()]))
    if not kinds or len(data) <= mac.end():
        raise IntegrityError("read the age header", subject, "it names no recipient or ends after its header")
    return kinds


def _count(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return len(stanzas(file, path.name))
    except (OSError, LifeboatError):
        return 0


def _plain(cause: str) -> str:
    """age's own words without the invitation to report them."""
    words = [part for part in cause.split(" / ") if _NOISE not in part]
    return re.sub(r"\bage: error: ", "", " / ".join(words)).strip() or cause


def _require(attempted: str, subject: str) -> None:
    if not shutil.which("age"):
        raise UnverifiedError(
            attempted, subject, "age is not installed", "Install it (apt install age), then try again."
        )
