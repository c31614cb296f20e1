# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The passwords of roles as PostgreSQL stores them: a verifier each, from which no password can be read.

https://www.postgresql.org/docs/current/catalog-pg-authid.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Iterable
from typing import Optional

_SCRAM = re.compile(r"SCRAM-SHA-256\$([0-9]{1,9}):([A-Za-z0-9+/=]{1,1024})\$([A-Za-z0-9+/=]{44}):[A-Za-z0-9+/=]{44}")
_MD5 = re.compile(r"md5[0-9a-f]{32}")
_ALTER_ROLE = re.compile(r'ALTER ROLE (?:"((?:[^"]|"")+)"|([^\s";]+)) WITH ')
_PASSWORD = re.compile(r" PASSWORD '((?:[^']|'')*)'")
ITERATIONS = 4096  # PostgreSQL's own. https://www.postgresql.org/docs/current/runtime-config-connection.html
MOST_ITERATIONS = 10_000_000  # a verifier that somebody made to keep us busy
# Each of these may not be in a password that is prepared: RFC 4013, section 2.3.
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9, stringprep.in_table_a1,
)  # fmt: skip


def of_globals(statements: Iterable[str]) -> dict[str, Optional[str]]:
    """Return the verifier of each role that `pg_dumpall --globals-only` describes; None: it has no password."""
    found: dict[str, Optional[str]] = {}
    for statement in statements:
        role = _ALTER_ROLE.match(statement)
        if role:
            name = role[1].replace('""', '"') if role[1] else role[2]
            given = _PASSWORD.search(statement, role.end() - 1)
            found[name] = given[1].replace("''", "'") if given else None
    return found


def matches(verifier: Optional[str], user: str, password: str) -> Optional[bool]:
    """Tell whether a login of `user` with `password` succeeds against `verifier`; None where its form is unknown."""
    if verifier is None:
        return False
    if _MD5.fullmatch(verifier):
        digest = hashlib.md5(f"{password}{user}".encode("utf-8", "surrogateescape"), usedforsecurity=False)
        return hmac.compare_digest(verifier, f"md5{digest.hexdigest()}")
    scram = _SCRAM.fullmatch(verifier)
    if not scram or not 0 < int(scram[1]) <= MOST_ITERATIONS:
        return None
    try:
        salt, stored = (base64.b64decode(part, validate=True) for part in (scram[2], scram[3]))
    except binascii.Error:
        return None
    return hmac.compare_digest(stored, _keys(password, salt, int(scram[1]))[0])


def verifier_of(password: str) -> str:
    """Return a verifier of `password`, so that the password itself is in no statement and in no server's log."""
    salt = secrets.token_bytes(16)
    stored, server = (base64.b64encode(key).decode() for key in _keys(password, salt, ITERATIONS))
    return f"SCRAM-SHA-256${ITERATIONS}:{base64.b64encode(salt).decode()}${stored}:{server}"


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of RFC 5802, section 3."""
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    client, server = (hmac.new(salted, word, hashlib.sha256).digest() for word in (b"Client Key", b"Server Key"))
    return hashlib.sha256(client).digest(), server


def _prepared(password: str) -> bytes:
    """SASLprep (RFC 4013); what it does not allow is taken as it is, as PostgreSQL does."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    spaced = "".join(" " if stringprep.in_table_c12(letter) else letter for letter in password)
    text = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(c for c in spaced if not stringprep.in_table_b1(c)))
    if not text or any(prohibited(letter) for letter in text for prohibited in _PROHIBITED):
        return raw
    right = [letter for letter in text if stringprep.in_table_d1(letter)]
    if right:
        left = any(stringprep.in_table_d2(letter) for letter in text)
        if left or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
            return raw
    return text.encode()
