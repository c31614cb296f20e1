# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in: MinIO's admin API as it was recorded, in front of SeaweedFS. It is not MinIO.

It answers `export-iam`, `import-iam-v2`, `import-iam`, `set-group-status`, `export-bucket-metadata` and
`import-bucket-metadata`, checks their signatures, and passes everything else on to SeaweedFS, where the access key is
one that it knows. Its identities lie in the server's data directory, so that they are lost with it, as MinIO's are.

As MinIO, it refuses a policy with a condition on access control lists, which MinIO does not have, tells arrays in
random order and refuses a user with root's name; an import enables every group and every service account, and that of a
bucket's metadata makes the bucket.
What MinIO encrypts (`mc admin user add`) it does not have: identities come by an import.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import io
import json
import random
import re
import threading
import time
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import s3_servers

API = "/minio/admin/v3/"
FILES = (
    "policies", "users", "groups", "svcaccts", "user_mappings", "group_mappings", "stsuser_mappings",
)  # fmt: skip
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]*)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<names>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_OF_ACCESS_LISTS = re.compile(r"s3:x-amz-(acl|grant-)")
_BUILT_IN = {
    "consoleAdmin": ["admin:*", "kms:*", "s3:*"], "diagnostics": ["admin:Profiling", "admin:ServerTrace"],
    "readonly": ["s3:GetBucketLocation", "s3:GetObject"], "readwrite": ["s3:*"], "writeonly": ["s3:PutObject"],
}  # fmt: skip


def document(*actions: str, bucket: str = "*") -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{bucket}"]}
    return {"Version": "2012-10-17", "Statement": [statement]}


def archive(members: dict[str, Any]) -> bytes:
    """A zip as the server writes it: {"iam-assets/users.json": {...}}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, value in members.items():
            packed.writestr(name, value if isinstance(value, (str, bytes)) else json.dumps(value))
    return buffer.getvalue()


def identities(
    users: dict[str, str],
    accounts: dict[str, tuple[str, str]] | None = None,
    groups: dict[str, list[str]] | None = None,
    policies: dict[str, Any] | None = None,
    attached: dict[str, str] | None = None,
) -> dict[str, Any]:
    """{"users": {...}, ...} as the API tells it. users: secrets; accounts: (parent, secret); attached: by user."""
    return {
        "policies": {**{name: document(*actions) for name, actions in _BUILT_IN.items()}, **(policies or {})},
        "users": {name: {"secretKey": secret, "status": "enabled"} for name, secret in users.items()},
        "groups": {
            name: {"version": 1, "status": "enabled", "members": members, "updatedAt": "2026-11-25T17:52:52.230087521Z"}
            for name, members in (groups or {}).items()
        },
        "svcaccts": {
            name: {
                "parent": parent, "accessKey": name, "secretKey": secret, "groups": None,
                "claims": {"accessKey": name, "parent": parent, "sa-policy": "inherited-policy"},
                "sessionPolicy": None, "status": "on", "name": "", "description": "",
                "expiration": "1970-01-01T00:00:00Z",
            }
            for name, (parent, secret) in (accounts or {}).items()
        },
        "user_mappings": {
            name: {"version": 0, "policy": policy, "updatedAt": "2026-11-25T17:52:51.818589244Z"}
            for name, policy in (attached or {}).items()
        },
        "group_mappings": {},
        "stsuser_mappings": {},
    }  # fmt: skip


def zipped(found: dict[str, Any]) -> bytes:
    return archive({f"iam-assets/{name}.json": found[name] for name in FILES})


class StandIn(s3_servers.Server):
    """SeaweedFS behind the admin API. `keys`: the access keys that users and service accounts may ever have."""

    kind = "a stand-in for MinIO"

    def __init__(self, directory: Path, keys: dict[str, str] | None = None) -> None:
        super().__init__(directory)
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        known = [
            {"name": name, "access_key": name, "secret_key": secret, "actions": everything}
            for name, secret in (keys or {}).items()
        ]
        self.weed = s3_servers.SeaweedFS(directory / "weed", known)
        self.access_key, self.secret_key, self.data = self.weed.access_key, self.weed.secret_key, self.weed.data
        self.port = s3_servers.free_port([self.weed.port])
        self.requests: list[str] = []
        self.absent: set[str] = set()  # requests that an older server does not have
        self._http: ThreadingHTTPServer | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        return self.weed.command()

    def ready(self) -> bool:
        return self.weed.ready()

    def start(self) -> None:
        self.weed.start()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        self.weed.kill()

    @property
    def _file(self) -> Path:
        return self.data / "stand-in.json"

    @property
    def state(self) -> dict[str, Any]:
        """A fresh server has its built-in policies and nobody but root."""
        if self._file.exists():
            return dict(json.loads(self._file.read_text()))
        return {**identities({}), "quotas": {}}

    @state.setter
    def state(self, found: dict[str, Any]) -> None:
        self._file.write_text(json.dumps({"quotas": {}, **found}))

    def secret(self, access_key: str) -> str:
        """Empty where there is no such key."""
        state = self.state
        if access_key == self.access_key:
            return self.secret_key
        for kind in ("users", "svcaccts"):
            if access_key in state[kind] and state[kind][access_key]["status"] in ("enabled", "on"):
                return str(state[kind][access_key]["secretKey"])
        return ""

    def bring(self, data: bytes) -> dict[str, Any]:
        """An import, as MinIO does it. Returns what it answers."""
        state, now = self.state, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            given = {name: json.loads(packed.read(f"iam-assets/{name}.json") or b"null") or {} for name in FILES}
        if self.access_key in given["users"]:
            raise Refused(409, "XMinioInvalidIAMCredentials", "User is not allowed to be same as admin access key")
        for key in _condition_keys(given["policies"]):
            if _OF_ACCESS_LISTS.match(key):
                words = f"error importing policies.json with: invalid condition key '{key}'"
                raise Refused(400, "XMinioAdminConfigBadJSON", words)
        state["policies"].update(given["policies"])
        state["users"].update(given["users"])
        for name, group in given["groups"].items():
            state["groups"][name] = {**group, "status": "enabled", "updatedAt": now}
        for name, account in given["svcaccts"].items():
            state["svcaccts"][name] = {**account, "status": "on"}
        for kind in ("user_mappings", "group_mappings", "stsuser_mappings"):
            state[kind].update({name: {**told, "updatedAt": now} for name, told in given[kind].items()})
        self.state = state
        attached = {
            kind: [{name: told["policy"].split(",")} for name, told in sorted(given[mappings].items())]
            for kind, mappings in (("userPolicies", "user_mappings"), ("groupPolicies", "group_mappings"))
        }
        added = {
            "policies": sorted(given["policies"]), "users": sorted(given["users"]), "groups": sorted(given["groups"]),
            "serviceAccounts": sorted(given["svcaccts"]), **attached,
        }  # fmt: skip
        return {"skipped": {}, "removed": {}, "added": added, "failed": {}}


def _condition_keys(policies: dict[str, Any]) -> list[str]:
    statements = [one for policy in policies.values() for one in policy.get("Statement", [])]
    return [key for one in statements for test in one.get("Condition", {}).values() for key in test]


class Refused(Exception):
    """An answer of the admin API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.body = status, {"Code": code, "Message": message}
        super().__init__(code)


class _Handler(BaseHTTPRequestHandler):
    owner: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """It is quiet."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not urlsplit(self.path).path.startswith(API):
            self._pass_on(body)
            return
        try:
            self._signed(body)
            self._answer(200, *self._admin(body))
        except Refused as exc:
            self._answer(exc.status, "application/json", _compact({**exc.body, "Resource": self.path}))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _admin(self, body: bytes) -> tuple[str, bytes]:
        parts = urlsplit(self.path)
        what, query = parts.path[len(API) :], {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.owner.requests.append(f"{self.command} {what}")
        if what in self.owner.absent:
            raise Refused(426, "XMinioAdminVersionMismatch", "This 'admin' API is not supported by server")
        state = self.owner.state
        if (self.command, what) == ("GET", "export-iam"):
            return "application/zip", zipped(_shuffled(state))
        if (self.command, what) == ("PUT", "import-iam-v2"):
            return "application/json", _compact(self.owner.bring(body))
        if (self.command, what) == ("PUT", "import-iam"):
            self.owner.bring(body)
            return "application/json", b""
        if (self.command, what) == ("PUT", "set-group-status"):
            state["groups"][query["group"]]["status"] = query["status"]
            self.owner.state = state
            return "application/json", b""
        if (self.command, what) == ("GET", "export-bucket-metadata"):
            return "application/zip", self._metadata(query.get("bucket", ""), state["quotas"])
        if (self.command, what) == ("PUT", "import-bucket-metadata"):
            with zipfile.ZipFile(io.BytesIO(body)) as packed:
                quota = json.loads(packed.read(f"{query['bucket']}/quota.json"))
            with contextlib.suppress(self.owner.weed.client.exceptions.ClientError):
                self.owner.weed.client.create_bucket(Bucket=query["bucket"])
            self.owner.state = {**state, "quotas": {**state["quotas"], query["bucket"]: quota}}
            done = {query["bucket"]: {"quota": {"isSet": True}, "policy": {"isSet": False}}}
            return "application/json", _compact({"buckets": done})
        raise Refused(404, "XMinioAdminNoSuchRequest", "The stand-in has no such request")

    def _metadata(self, bucket: str, quotas: dict[str, Any]) -> bytes:
        names = [bucket] if bucket else [one["Name"] for one in self.owner.weed.client.list_buckets()["Buckets"]]
        members: dict[str, Any] = {}
        for name in names:
            members[f"{name}/notification.xml"] = "<NotificationConfiguration></NotificationConfiguration>"
            members[f"{name}/bucket-targets.json"] = "<BucketTargets></BucketTargets>"
            if name in quotas:
                members[f"{name}/quota.json"] = quotas[name]
        return archive(members)

    def _signed(self, body: bytes) -> None:
        """https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html, from the other side."""
        given = _AUTHORIZATION.fullmatch(self.headers.get("authorization", ""))
        if not given:
            raise Refused(403, "AccessDenied", "Access Denied.")
        secret = self.owner.secret(given["key"])
        if not secret:
            raise Refused(403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.")
        parts = urlsplit(self.path)
        words = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
        )
        lines = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in given["names"].split(";"))
        payload = self.headers["x-amz-content-sha256"]
        asked = f"{self.command}\n{parts.path}\n{words}\n{lines}\n{given['names']}\n{payload}"
        scope = f"{given['day']}/{given['region']}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{self.headers['x-amz-date']}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        key = f"AWS4{secret}".encode()
        for part in (given["day"], given["region"], "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == given["signature"]
        if not right or payload not in (hashlib.sha256(body).hexdigest(), "UNSIGNED-PAYLOAD"):
            raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        if given["key"] != self.owner.access_key and not self._administers(given["key"]):
            raise Refused(403, "AccessDenied", "Access Denied.")

    def _administers(self, key: str) -> bool:
        return "consoleAdmin" in self.owner.state["user_mappings"].get(key, {}).get("policy", "").split(",")

    def _pass_on(self, body: bytes) -> None:
        match = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        if match and not self.owner.secret(match[1]):
            words = "The Access Key Id you provided does not exist in our records."
            said = f"<Error><Code>InvalidAccessKeyId</Code><Message>{words}</Message></Error>"
            self._answer(403, "application/xml", said.encode())
            return
        weed = http.client.HTTPConnection("127.0.0.1", self.owner.weed.port, timeout=60)
        try:
            weed.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    weed.putheader(name, value.encode("latin-1"))
            weed.endheaders(body or None)
            answer = weed.getresponse()
            data = answer.read()
            self.send_response_only(answer.status, answer.reason)
            length = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(data)
        finally:
            weed.close()

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _compact(value: Any) -> bytes:
    """JSON as Go writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def _shuffled(value: Any) -> Any:
    """Arrays of policies come in another order each time."""
    if isinstance(value, dict):
        return {name: _shuffled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return random.sample([_shuffled(inner) for inner in value], len(value))
    return value


def keys(found: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Every access key with its secret, for SeaweedFS to know."""
    return {
        name: told["secretKey"] for one in found for kind in ("users", "svcaccts") for name, told in one[kind].items()
    }
