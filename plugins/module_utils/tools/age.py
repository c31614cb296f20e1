# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption by age (https://age-encryption.org), nothing of our own: the host holds recipients, and a key of its own
that opens what it encrypted within the last days.

Recipients are no secret and go into argv. An identity is the secret: it comes as text and goes to age's standard input,
never into argv or the environment. The host's own key alone lies in a file.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Callable, Optional, Protocol

from ..base import clock, filesystem, pipeline
from ..base.errors import IntegrityError, LifeboatError, Log, UnverifiedError, UsageError, unable
from ..base.pipeline import Command, HashingWriter, Sink
from . import tar

_INTRO = b"age-encryption.org/v1\n"
_ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----"
_STANZA = re.compile(rb"-> (\S+)")
_MAC = re.compile(rb"--- [A-Za-z0-9+/]{43}\n")
_HEADER = 1 << 20
_SECRET_KEY = re.compile(r"(?m)^\s*(AGE-SECRET-KEY-1|AGE-PLUGIN-)")
_WHOLE = "Give the file that age-keygen wrote, whole."
_ANOTHER = "Choose another backup (lifeboat list), or fetch the vault's copy."
_NOISE = "report unexpected or unhelpful errors"
_PUBLIC = re.compile(r"(?m)^# public key: (age1\S+)$")
SUFFIX = ".age"
_LONG = 24 * 3600
DIRECTORY = f".tar{SUFFIX}"  # a directory of plain files, in one age file
_OPENED = "opened-"
_WORN_OUT = timedelta(days=7)  # after its last use a host's key is destroyed, whatever was verified with it
_EARLY = timedelta(hours=1)


@dataclass(frozen=True)
class Seal:
    """For whom a backup is encrypted; for nobody where there are no recipients. host: the recipient of the host's own
    key, which opens it for some days."""

    recipients: tuple[str, ...] = ()
    host: str = ""

    @property
    def everybody(self) -> tuple[str, ...]:
        return (*self.recipients, self.host) if self.host else self.recipients

    def named(self, name: str) -> str:
        """What an artefact is called that holds what `name` says."""
        return f"{name}{SUFFIX}" if self.recipients else name

    @property
    def chain(self) -> list[Command]:
        """The end of a chain of processes."""
        return [encryption(self.everybody)] if self.recipients else []

    def write(self, data: bytes, sink: Sink, *, subject: str) -> None:
        if self.recipients:
            encrypt(io.BytesIO(data), self.everybody, sink, subject=subject)
        else:
            sink.write(data)

    @contextlib.contextmanager
    def writing(self, sink: HashingWriter, *, subject: str) -> Iterator[IO[bytes]]:
        """Something to write to: what comes out encrypted goes to the sink, which has all of it afterwards."""
        if not self.recipients:
            yield sink  # type: ignore[misc]
            return

        def work(reader: IO[bytes]) -> None:
            encrypt(reader, self.everybody, sink, subject=subject, timeout=_LONG)

        with pipeline.writing(work) as writer:
            yield writer


OPEN = Seal()


def encryption(recipients: Sequence[str]) -> Command:
    """What encrypts its standard input to all the recipients."""
    return Command(["age", "--encrypt", *(word for recipient in recipients for word in ("--recipient", recipient))])


def encrypt(source: IO[bytes], recipients: Sequence[str], sink: Sink, *, subject: str, timeout: float = 600) -> None:
    """Encrypt a stream to all the recipients; each of them alone can read it."""
    require("encrypt", subject)
    try:
        pipeline.run(
            [encryption(recipients)], attempted="encrypt", subject=subject, source=source, sink=sink, timeout=timeout,
            remedy="Correct lifeboat_encryption.recipients (or lifeboat_config.recipients); `age-keygen -y` prints the"
            " recipient of a key.",
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
    require("decrypt", subject)
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
    kept = _BoundedBuffer(limit, subject)
    decrypt(path, identity, kept, subject=subject, recipients=recipients)
    return bytes(kept.data)


class _BoundedBuffer:
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
        raise IntegrityError("read the age header", subject, "it is not an age file, or its header is cut or damaged")
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


def require(attempted: str, subject: str) -> None:
    """Raise UnverifiedError where age is not installed."""
    if not shutil.which("age"):
        raise UnverifiedError(
            attempted, subject, "age is not installed", "Install it (apt install age), then try again."
        )


# The host's own key.


@dataclass(frozen=True)
class HostKey:
    """created: when, by the name of its file."""

    path: Path
    created: datetime
    recipient: str


class HostKeys:
    """The keys that a host made for itself: it opens with them what it has to verify every night, and no older backup,
    as each is destroyed after some days. state: the stack's state directory."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "keys"

    def all(self) -> list[HostKey]:
        """Oldest first; a file that is no such key is passed over."""
        found = []
        for path in sorted(self.folder.glob(f"{'?' * 15}.key")) if self.folder.is_dir() else ():
            try:
                made, public = clock.stamped(path.stem), _PUBLIC.search(path.read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            if public and made:
                found.append(HostKey(path, made, public[1]))
        return found

    def usable(self, now: datetime, days: int) -> Optional[HostKey]:
        """The one that a new backup is for: the newest, while it is not older than that, nor of a time to come."""
        fit = [key for key in self.all() if key.created <= now + _EARLY and now - key.created < timedelta(days=days)]
        return fit[-1] if fit else None

    def recipient(self, now: datetime, days: int, log: Log) -> str:
        """Of the key for a new backup, made where there is none. Empty where none is wanted or can be made: a backup
        that this host cannot verify is better than none."""
        if not days:
            return ""
        try:
            key = self.usable(now, days) or self._make(now)
        except (LifeboatError, OSError) as exc:
            cause = exc.cause if isinstance(exc, LifeboatError) else exc.strerror or str(exc)
            log(f"this host has no key of its own, so that it cannot verify what it encrypts: {cause}")
            return ""
        return key.recipient

    def _make(self, now: datetime) -> HostKey:
        text = pipeline.output(
            Command(["age-keygen"]), attempted="make a key", subject="of this host", timeout=60,
            remedy="Install age (apt install age).",
        )  # fmt: skip
        public = _PUBLIC.search(text)
        if not public:
            raise LifeboatError("make a key", "of this host", "age-keygen did not print its public key")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{clock.stamp(now)}.key"
        filesystem.write(path, text.encode("ascii"), path.with_suffix(".new"))
        return HostKey(path, now, public[1])

    def text(self, recipients: Sequence[str]) -> str:
        """The identities of those that open what was encrypted for these; empty where none does."""
        found = []
        for key in self.all():
            if key.recipient in recipients:
                with contextlib.suppress(OSError):
                    found.append(key.path.read_text(encoding="ascii"))
        return "\n".join(found)

    def destroy(self, now: datetime, days: int, needed: Callable[[str], bool], log: Log) -> None:
        """Remove those that no backup is made for any more, once nothing is left to verify with them. needed: is there
        anything left, by the recipient. A week later they go in any case: a thief of the host shall read days."""
        usable = self.usable(now, days)
        for key in self.all():
            if key == usable:
                continue
            worn_out = not key.created <= now + _EARLY or now - key.created >= timedelta(days=days) + _WORN_OUT
            if not worn_out and needed(key.recipient):
                continue
            try:
                key.path.unlink()
                filesystem.sync(self.folder)
            except OSError as exc:  # a read-only file system, say: the next run tries again
                log(f"{key.path}, an old key of this host, could not be destroyed: {exc.strerror or exc}")
                continue
            left = "; what was not verified with it can be opened by the escrowed key alone" if worn_out else ""
            log(f"the host's key of {key.created:%Y-%m-%d} is destroyed{left}")


class NoKeyError(UnverifiedError):
    """There is no key here that opens it. It says nothing of what it was to open."""


@dataclass(frozen=True)
class Keys:
    """What opens backups here: the identity that an operator gave, and the host's own keys. directory: where
    to decrypt to, one of the host's."""

    host: HostKeys
    directory: Path
    identity: str = ""

    def opening(self, seal: Seal, subject: str) -> str:
        """The identities that may open it. Raises NoKeyError where there is none."""
        own = self.host.text(seal.everybody)
        if self.identity:
            check_identity(self.identity)
        elif not own:
            gone = "; this host's own key that opened it is gone" if seal.host else ""
            raise NoKeyError(
                "open the backup", subject, f"it is encrypted for {', '.join(seal.recipients)}{gone}",
                "Give the identity of one of them: -e identity_file=<a file on the controller> (lifeboat verify:"
                " --identity FILE).",
            )  # fmt: skip
        return "\n".join(filter(None, (self.identity, own)))

    @contextlib.contextmanager
    def opened(
        self, folder: Path, seal: Seal, *, subject: str, only: Callable[[str], bool] = lambda name: True,
        accept: bool = False,
    ) -> Iterator[Path]:  # fmt: skip
        """A backup's artefacts as they were before they were encrypted, under the names that they had; the folder
        itself where they are not encrypted. only: of the names, which ones. accept: of one that is damaged, what can be
        read.

        Raises NoKeyError, WrongKeyError, and IntegrityError where one is damaged.
        """
        if not seal.recipients:
            yield folder
            return
        identity = self.opening(seal, subject)
        sealed = [path for path in filesystem.walk(folder) if path.name.endswith(SUFFIX) and path.is_file()]
        wanted = {path: path.relative_to(folder) for path in sealed if only(str(path.relative_to(folder)))}
        with self._private() as root:
            filesystem.require_room(root, sum(path.stat().st_size for path in wanted))
            for path, name in wanted.items():
                try:
                    _open(path, root / name, identity, seal, f"{subject}/{name}")
                except IntegrityError:
                    if not accept:
                        raise
            yield root

    @contextlib.contextmanager
    def stream(self, source: IO[bytes], seal: Seal, *, subject: str) -> Iterator[IO[bytes]]:
        """One artefact as it was before it was encrypted, all of it authenticated; itself where it is not encrypted."""
        if not seal.recipients:
            yield source
            return
        identity = self.opening(seal, subject)
        with self._private() as root, filesystem.explained("decrypt the backup", root):
            sealed, plain = root / "sealed", root / "plain"
            with filesystem.create(sealed) as file:
                shutil.copyfileobj(source, file, pipeline.CHUNK)
            with filesystem.create(plain) as file:
                decrypt(sealed, identity, file, subject=subject, recipients=seal.everybody, timeout=_LONG)
            sealed.unlink()
            with plain.open("rb") as file:
                yield file

    @contextlib.contextmanager
    def _private(self) -> Iterator[Path]:
        """A directory for what is decrypted, gone afterwards. What a killed run left there is removed first."""
        with contextlib.ExitStack() as stack:
            with filesystem.explained("decrypt the backup", self.directory):
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                root = stack.enter_context(filesystem.scratch(_OPENED, self.directory))
            yield root


def keys_of(identity: str = "") -> Keys:
    """Where there is no host of a stack: what the identity that was given opens, and it alone."""
    return Keys(HostKeys(Path(os.devnull)), Path(tempfile.gettempdir()), identity)


class _Encryption(Protocol):
    @property
    def recipients(self) -> tuple[str, ...]: ...

    @property
    def host_key_days(self) -> int: ...

    @property
    def directory(self) -> str: ...


class Settings(Protocol):
    """What of a stack's configuration counts here."""

    @property
    def encryption(self) -> _Encryption: ...

    @property
    def state(self) -> Path: ...


def sealing(config: Settings, log: Log, fallback: Sequence[str] = ()) -> Seal:
    """For whom a new backup is encrypted. fallback: the component's recipients, where there are none for all of them.
    Raises UnverifiedError where that cannot be: it is then not taken at all."""
    encryption = config.encryption
    recipients = tuple(encryption.recipients or fallback)
    if not recipients:
        return OPEN
    require("encrypt", "the backup")
    now = datetime.now(timezone.utc)
    host = HostKeys(config.state).recipient(now, encryption.host_key_days, log)
    return Seal(recipients, host)


def keys(config: Settings, identity: str = "") -> Keys:
    """What opens the stack's backups here. identity: the identity that an operator gave, as text."""
    return Keys(HostKeys(config.state), Path(config.encryption.directory or config.state), identity)


def _open(path: Path, target: Path, identity: str, seal: Seal, subject: str) -> None:
    """One artefact as it was, next to `target`, which has the name of the encrypted one."""
    with filesystem.explained("decrypt the backup", target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.name.endswith(DIRECTORY):
            inside = target.with_name(path.name[: -len(DIRECTORY)])
            _decrypt_directory(path, identity, inside, subject=subject, recipients=seal.everybody)
            return
        with filesystem.create(target.with_name(path.name[: -len(SUFFIX)])) as file:
            decrypt(path, identity, file, subject=subject, recipients=seal.everybody, timeout=_LONG)


def _decrypt_directory(path: Path, identity: str, target: Path, *, subject: str, recipients: Sequence[str]) -> None:
    """A directory of plain files out of one age file."""
    target.mkdir(mode=0o700)
    with pipeline.writing(lambda reader: _unpack(reader, target, subject)) as writer:
        decrypt(path, identity, writer, subject=subject, recipients=recipients, timeout=_LONG)


def _unpack(stream: IO[bytes], target: Path, subject: str) -> None:
    """By the last part of each name alone, so that nothing is written elsewhere."""
    try:
        # Closing the stream, also on failure, is what lets the writer at its other end stop.
        with stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=tar.Member) as archive:
            for member in archive:
                source = archive.extractfile(member) if member.isreg() else None
                if source is None:
                    if member.isdir():
                        continue
                    raise IntegrityError("decrypt", subject, f"{member.name!r} in it is not a plain file", _ANOTHER)
                with filesystem.create(target / os.path.basename(member.name)) as file:
                    shutil.copyfileobj(source, file, pipeline.CHUNK)
            while stream.read(pipeline.CHUNK):
                pass
    except tarfile.TarError as exc:
        raise IntegrityError("decrypt", subject, f"the archive in it is not whole: {exc}", _ANOTHER) from exc
