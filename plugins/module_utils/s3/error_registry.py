# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry of what an S3 server refuses for a reason of its own: a key, a clock, a full drive. No object is lost.

A server's code alone may not tell (`InvalidRequest` has many meanings), so that a cause also has words: of a server's
message, and of the log of a server that does not start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from ..base.errors import LifeboatError, SpaceError, UsageError


@dataclass(frozen=True)
class Cause:
    """kind: the error that it becomes. codes, message: how a server says it. log: how a server that ends says it.

    whole: it is of the server or of the key, so that one answer tells of all objects. Otherwise others may be readable.
    rebuild: a fresh server can be right after it, where its data is known to be lost.
    """

    name: str
    description: str
    remedy: str
    kind: type[LifeboatError] = UsageError
    codes: tuple[str, ...] = ()
    message: str = ""
    log: str = ""
    whole: bool = True
    rebuild: bool = False


_KEY = (
    "Correct s3_access_key and s3_secret_key (of the stack's bucket: objects_…, of the vault: vault_…) in "
    "lifeboat_secrets and deploy again."
)
CREDENTIALS, PERMISSION, CLOCK, ENCRYPTION, CUSTOMER_KEY = "credentials", "permission", "clock", "encryption", "sse-c"
TLS, LICENCE, QUOTA, READ_ONLY, FULL, REGION = "tls", "licence", "quota", "read-only", "disk-full", "region"
LOCKED, THROTTLED = "locked", "throttled"

CAUSES = (
    Cause(
        CUSTOMER_KEY, "it is encrypted with its client's own key (SSE-C)",
        "Only that client can read it: leave it out of the mirror, or encrypt it with a key of the server.",
        LifeboatError, message=r"form of Server Side Encryption|SSE-?C\b", whole=False,
    ),
    Cause(
        ENCRYPTION, "the server cannot decrypt what it holds",
        "Give the server the encryption key back that the objects were written with (MinIO: MINIO_KMS_SECRET_KEY, or"
        " its KES or KMS), restart it, then run this again.",
        LifeboatError, codes=("XMinioKMSKeyNotFoundException", "KMS.DisabledException", "KMS.NotFoundException"),
        message=r"\bKMS\b.*\b(unavailable|unreachable|not found|disabled)", log=r"\bKMS\b|\bKES\b",
    ),
    Cause(
        CREDENTIALS, "the endpoint refuses the key", _KEY,
        codes=(
            "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "401", "ExpiredToken",
            "TokenRefreshRequired", "InvalidClientTokenId",
        ),
        message=r"Forbidden: (No such key|Invalid signature)",  # Garage says AccessDenied
        log=r"Invalid credentials|Missing credential|(root|access) (user|key) .*(too short|invalid)", rebuild=True,
    ),
    Cause(
        CLOCK, "this host's clock is wrong", "Set it (timedatectl), then try again.",
        codes=("RequestTimeTooSkewed",),
    ),
    Cause(
        LICENCE, "the server's licence does not allow it", "Renew the licence of the server, then run this again.",
        message=r"\blicen[cs]e", log=r"\blicen[cs]e\b.*\b(invalid|expired|missing|required|not found|fail)"
        r"|\b(invalid|expired|missing|no)\b.*\blicen[cs]e\b",
    ),
    Cause(
        QUOTA, "the bucket's quota is used up",
        "Raise the bucket's quota or free space in it (lifeboat.dr.prune), then try again.",
        SpaceError, codes=("QuotaExceeded", "XMinioAdminBucketQuotaExceeded"), message=r"\bquota (was |is )?exceeded",
        log=r"\bquota exceeded", whole=False,
    ),
    Cause(
        FULL, "the server's storage is full", "Free space there or run lifeboat.dr.prune, then try again.",
        SpaceError, codes=("XMinioStorageFull", "InsufficientStorage", "507"),
        message=r"no space left|no (more )?(free|writable) (volumes|space)", log=r"no space left|drive.* is full",
        whole=False,
    ),
    Cause(
        LOCKED, "the server says that an object lock protects it",
        "Wait until the lock ends (or remove it, in GOVERNANCE), then try again.",
        LifeboatError, codes=("ObjectLocked",), message=r"WORM protected|protected by object lock", whole=False,
    ),
    Cause(
        READ_ONLY, "the server cannot write to its drives",
        "Look at the server's log: they are read-only, failed or too few. Make them writable, then try again.",
        LifeboatError, message=r"read[- ]only|\bunwritable\b",  # MinIO says SlowDownWrite, "reduce your request rate"
        log=r"read-only file system|drive.* read-only", whole=False,
    ),
    Cause(
        THROTTLED, "the server takes no more requests at this rate",
        "Wait, or lower lifeboat_objects.transfers, then try again; look at the server's own limits.",
        LifeboatError,
        codes=("SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException", "429"),
        whole=False,
    ),
    Cause(
        TLS, "no trusted TLS connection can be made",
        "Set ca_bundle to the CA that signed its certificate, or correct the scheme of endpoint_url.",
        message=r"HTTP request to an HTTPS server|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER",
        log=r"TLS certificate|private key using the provided password",
    ),
    Cause(
        REGION, "the bucket is in another region", "Correct region and endpoint_url.",
        codes=("PermanentRedirect", "AuthorizationHeaderMalformed", "301"),
    ),
    Cause(
        PERMISSION, "access denied",
        "Allow this action in the key's policy: docs/mirror.md lists what the stack's key needs, docs/vault.md what"
        " the vault's does.",
        codes=("AccessDenied", "403", "AllAccessDisabled", "MethodNotAllowed"),
        log=r"permission denied|file access denied|Unable to write to the backend|Missing permissions", whole=False,
    ),
)  # fmt: skip
_BY_CODE = {code: cause for cause in CAUSES for code in cause.codes}
_BY_MESSAGE = [(re.compile(cause.message, re.IGNORECASE), cause) for cause in CAUSES if cause.message]
_LOGGED = [(re.compile(cause.log, re.IGNORECASE), cause) for cause in CAUSES if cause.log]
_FINDINGS = ("NoSuchBucket", "NoSuchKey", "NoSuchVersion", "404", "NotFound")
_DAMAGE = re.compile(r"\bunreadable\b", re.IGNORECASE)  # MinIO: "reduce your request rate", where drives are lost
_WRONG = re.compile(r"\b(fatal|error|unable|fail(ed|ure)?|invalid|denied|expired|cannot)\b", re.IGNORECASE)


def by_name(name: str) -> Cause:
    return next(cause for cause in CAUSES if cause.name == name)


def answered(code: str, message: str = "", status: int = 0) -> Optional[Cause]:
    """Return what a server's answer says; None where it may mean anything, such as that the object is damaged."""
    if code in _FINDINGS or _DAMAGE.search(message):
        return None
    if code.startswith("kms:"):
        return by_name(ENCRYPTION)
    cause = next((known for pattern, known in _BY_MESSAGE if pattern.search(message)), None)
    return cause or _BY_CODE.get(code) or _BY_CODE.get(str(status))


def cause_of(error: BaseException) -> Optional[Cause]:
    """Return the cause of an error from client.translate(); None where the server's answer names none."""
    known = getattr(error.__cause__, "__context__", None) if error.__cause__ else None
    for exc in (error.__cause__, known):
        response = getattr(exc, "response", None)
        if response:
            told = response.get("Error", {})
            status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return answered(str(told.get("Code", "")), str(told.get("Message", "")), status)
        if type(exc).__name__ == "SSLError" or (exc is not None and answered("", str(exc)) is by_name(TLS)):
            return by_name(TLS)
    return None


def logged(lines: str) -> Optional[tuple[Cause, str]]:
    """Return why a server ended by its own log, and the line that says so; the last one that is of a cause counts."""
    for line in reversed(lines.splitlines()):
        for pattern, cause in _LOGGED:
            if pattern.search(line) and _WRONG.search(line):
                return cause, line.strip()
    return None
