# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MinIO's admin API, as far as its answers are in clear: identities and the buckets' metadata, each as a zip.

Requests are signed like those to S3. What the API encrypts with the caller's secret key (the server's configuration
with its webhooks and tiers, the list of users) is not asked for: it needs Argon2, which the standard library lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..base import typed
from ..base.errors import IntegrityError, LifeboatError, UnverifiedError, UsageError
from . import client
from .signed import Answer, Requests

_PATH = "admin/v3/"
_UNKNOWN_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
# A server without these requests: another kind of server, an older MinIO, a gateway. Codes, then statuses.
_ABSENT = (
    "XMinioAdminVersionMismatch", "NotImplemented", "MethodNotAllowed", "NoSuchBucket", "NoSuchKey", "404", "405",
    "426", "501",
)  # fmt: skip
# Of the answer's first bytes, which is all that an error keeps.
_REFUSAL = re.compile(r'\s*\{\s*"Code":\s*"(?P<code>\w+)"(,\s*"Message":\s*"(?P<message>[^"\\]*))?')
KEYS = "objects_admin_access_key and objects_admin_secret_key"


class AbsentError(UnverifiedError):
    """The server does not know such a request."""


@dataclass(frozen=True)
class Named:
    """What an import could not do, by kind: users, groups, policies, serviceAccounts and the mappings of policies."""

    policies: Optional[tuple[object, ...]] = None
    users: Optional[tuple[object, ...]] = None
    groups: Optional[tuple[object, ...]] = None
    serviceAccounts: Optional[tuple[object, ...]] = None
    userPolicies: Optional[tuple[object, ...]] = None
    groupPolicies: Optional[tuple[object, ...]] = None
    stsPolicies: Optional[tuple[object, ...]] = None

    @property
    def count(self) -> int:
        return sum(len(names or ()) for names in vars(self).values())


@dataclass(frozen=True)
class Imported:
    """What the server says of an import; empty where it is older than that answer."""

    added: Named = field(default_factory=Named)
    skipped: Named = field(default_factory=Named)
    removed: Named = field(default_factory=Named)
    failed: Named = field(default_factory=Named)


class Admin:
    """The admin API of one server. Nothing is sent before the first call."""

    def __init__(self, endpoint_url: str, region: str, access_key: str, secret_key: str, ca_bundle: str = "") -> None:
        self.endpoint_url = endpoint_url
        self._requests = Requests(endpoint_url, region, access_key, secret_key, ca_bundle)

    def export_identities(self) -> bytes:
        """Users, groups, policies, service accounts and their secret keys in clear, as a zip: a secret."""
        return self._ask("GET", "export-iam", attempted="export the identities").body

    def import_identities(self, archive: bytes) -> Imported:
        """Add what the zip holds; what the server has of the same name becomes as it is there."""
        attempted = "import the identities"
        try:
            answer = self._ask("PUT", "import-iam-v2", body=archive, attempted=attempted)
        except AbsentError:
            answer = self._ask("PUT", "import-iam", body=archive, attempted=attempted)
        if not answer.body:
            return Imported()
        return typed.build(Imported, typed.load(answer.body, self._wrong), self._wrong, unknown="ignore")

    def set_group(self, name: str, *, enabled: bool) -> None:
        query = {"group": name, "status": "enabled" if enabled else "disabled"}
        self._ask("PUT", "set-group-status", query, attempted="set the status of a group")

    def export_buckets(self) -> bytes:
        """Return the metadata of every bucket (policy, quota, notification, lifecycle and others), as a zip."""
        return self._ask("GET", "export-bucket-metadata", attempted="export the buckets' metadata").body

    def import_bucket(self, name: str, archive: bytes) -> None:
        """Set of a bucket what the zip holds; the rest of it stays."""
        self._ask("PUT", "import-bucket-metadata", {"bucket": name}, archive, attempted="import a bucket's metadata")

    def _ask(
        self, method: str, what: str, query: Optional[Mapping[str, str]] = None, body: bytes = b"", *, attempted: str
    ) -> Answer:
        try:
            return self._requests.call(
                method, "minio", f"{_PATH}{what}", query, body=body, attempted=attempted, subject=self.endpoint_url
            )
        except LifeboatError as exc:
            raise self._explained(exc) from exc

    def _explained(self, exc: LifeboatError) -> LifeboatError:
        """The API refuses in JSON, and servers that do not have it in XML."""
        code, message = client.code(exc), ""
        if not client.status(exc):
            return exc
        response = getattr(exc.__cause__, "response", None) or {}
        told = str(response.get("Error", {}).get("Message", ""))
        match = _REFUSAL.match(told)
        if match:
            code, message = match["code"], match["message"] or ""
        said = f"{code}: {message or told}".strip(": ")
        if code in _UNKNOWN_KEY:
            cause = f"the server does not take the admin key ({said})"
            return UsageError(
                exc.attempted, exc.subject, cause,
                f"Correct {KEYS} in lifeboat_secrets and deploy again. Are they another server's?",
            )  # fmt: skip
        if code in client.DENIED:
            return UsageError(
                exc.attempted, exc.subject, f"the admin key may not do that ({said})",
                f"Give root's as {KEYS}, or those of a user with the policy consoleAdmin.",
            )  # fmt: skip
        if code in _ABSENT:
            return AbsentError(
                exc.attempted, exc.subject, f"this server has no such admin request ({said})",
                "Correct lifeboat_objects.admin: minio is for MinIO of 2022 or newer.",
            )  # fmt: skip
        return LifeboatError(exc.attempted, exc.subject, said, exc.remedy)

    def _wrong(self, where: str, cause: str) -> LifeboatError:
        words = f"the server's answer is not one that is known: {f'{where} {cause}'.strip()}"
        return IntegrityError("import the identities", self.endpoint_url, words, "Look at the server's log.")
