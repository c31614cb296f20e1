# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detached signatures by `ssh-keygen -Y`: the key is the operator's, the trust in it is the reader's.

https://man.openbsd.org/ssh-keygen.1#Y
"""

from __future__ import annotations

from pathlib import Path

from ..base import pipeline
from ..base.errors import LifeboatError, NotFoundError
from ..base.filesystem import explained
from ..base.pipeline import Command

NAMESPACE = "lifeboat.dr"
NONE = "unsigned"
PRESENT = "signed, not checked"
BAD = "BAD SIGNATURE"
_REMEDY = "Correct lifeboat_evidence.signing_key; it must be a private key on the host, without a passphrase."


def path_of(path: Path) -> Path:
    return path.with_name(path.name + ".sig")


def make(path: Path, key: str) -> Path:
    """Sign the file: `<file>.sig` beside it."""
    attempted = "sign the evidence"
    if not Path(key).is_file():
        raise NotFoundError(attempted, key, "there is no such key", _REMEDY)
    with explained(attempted, path):
        path_of(path).unlink(missing_ok=True)  # ssh-keygen asks before it overwrites
    # SSH_ASKPASS_REQUIRE: a key with a passphrase must fail, not wait for a terminal.
    words = ["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, str(path)]
    status, _out, err = pipeline.probe(Command(words, {"SSH_ASKPASS_REQUIRE": "never"}), timeout=30)
    if status or not path_of(path).is_file():
        said = err.strip().splitlines() or [f"ssh-keygen ended with {status}"]
        raise LifeboatError(attempted, str(path), said[-1], _REMEDY)
    return path_of(path)


def check(path: Path, allowed_signers: str) -> str:
    """Who signed the file, in words; BAD with the reason where nobody that `allowed_signers` names did.

    allowed_signers: `name ssh-ed25519 AAAA…` a line, as in ssh-keygen(1). Raises LifeboatError when it cannot be asked.
    """
    if not path_of(path).is_file():
        return NONE
    attempted = "check the signature"
    if not Path(allowed_signers).is_file():
        raise NotFoundError(attempted, allowed_signers, "there is no such file", "Name a file of allowed signers.")
    words = ["ssh-keygen", "-Y", "find-principals", "-f", allowed_signers, "-s", str(path_of(path))]
    status, who, err = pipeline.probe(Command(words), timeout=30)
    if status in (126, 127):
        raise LifeboatError(attempted, str(path), err, "Install openssh-client.")
    names = who.split()
    if status or not names:
        return f"{BAD}: of a key that {allowed_signers} does not name"
    with explained(attempted, path), path.open("rb") as file:
        try:
            words = ["ssh-keygen", "-Y", "verify", "-f", allowed_signers, "-I", names[0], "-n", NAMESPACE]
            verify = Command([*words, "-s", str(path_of(path))])
            pipeline.run([verify], attempted=attempted, subject=str(path), source=file, timeout=30)
        except LifeboatError as exc:
            return f"{BAD}: {exc.cause}"
    return f"signed by {names[0]}"
