"""Enough of AWX's REST API for the modules of awx.awx 24.6: objects by name, filters, associations, surveys, approvals.

It refuses what AWX refuses of a survey, a schedule and a launch's prompts, as far as those are written down here.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NOTIFICATIONS = tuple(f"notification_templates_{event}" for event in ("error", "success", "started"))
RELATED = {
    "job_templates": ("labels", "credentials", "survey_spec", "instance_groups", *NOTIFICATIONS),
    "workflow_job_templates": (
        "labels", "survey_spec", "workflow_nodes", "notification_templates_approvals", *NOTIFICATIONS,
    ),
    "workflow_job_template_nodes": ("success_nodes", "failure_nodes", "always_nodes", "credentials"),
    "projects": NOTIFICATIONS,
    "inventory_sources": NOTIFICATIONS,
    "schedules": ("credentials", "labels"),
}  # fmt: skip
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "approvals")


class Awx:
    """The state, and what was written: [(method, path, body)]."""

    def __init__(self, credentials: tuple[str, ...] = ()) -> None:
        self.objects: dict[str, dict[int, dict[str, Any]]] = {}
        self.links: dict[str, list[int]] = {}
        self.specs: dict[str, Any] = {}
        self.writes: list[tuple[str, str, Any]] = []
        self.lock = threading.Lock()
        self.new("organizations", {"name": "Default"})
        for name in credentials:
            self.new("credentials", {"name": name})

    def new(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        number = 1 + max((key for some in self.objects.values() for key in some), default=0)
        more = {"scm_revision": "c0ffee", "status": "successful"} if endpoint == "projects" else {}
        return self.objects.setdefault(endpoint, {}).setdefault(number, {**body, **more, "id": number})

    def shown(self, endpoint: str, thing: dict[str, Any]) -> dict[str, Any]:
        url = f"/api/v2/{endpoint}/{thing['id']}/"
        related = {name: f"{url}{name}/" for name in RELATED.get(endpoint, ())}
        if endpoint == "workflow_job_template_nodes":
            related["create_approval_template"] = f"{url}create_approval_template/"
            if thing.get("unified_job_template"):
                related["unified_job_template"] = f"/api/v2/unified_job_templates/{thing['unified_job_template']}/"
        return {**thing, "url": url, "type": endpoint.rstrip("s"), "related": related, "summary_fields": {}}

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        parts = [part for part in path.split("/") if part][2:]
        if not parts or parts[0] in ("ping", "me", "config"):
            return 200, {"version": "24.6.1", **_page([])}
        endpoint = parts[0]
        kinds = UNIFIED if endpoint == "unified_job_templates" else (endpoint,)
        every = [self.shown(kind, thing) for kind in kinds for thing in self.objects.get(kind, {}).values()]
        if len(parts) == 1 and method == "GET":
            return 200, _page([thing for thing in every if _fits(thing, query)])
        if len(parts) == 1:
            problem = _refused(endpoint, body)
            return (400, {"detail": problem}) if problem else (201, self.shown(endpoint, self.new(endpoint, body)))
        shown = next((thing for thing in every if str(thing["id"]) == parts[1]), None)
        if shown is None:
            return 404, {"detail": "Not found."}
        if len(parts) == 2:
            if method == "PATCH":
                self.objects[endpoint][shown["id"]].update(body)
            return 200, {**shown, **body}
        return self._below(method, path, parts, body)

    def _below(self, method: str, path: str, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if parts[2] == "survey_spec":
            if method == "POST":
                self.specs[path] = body
            return 200, self.specs.get(path, {})
        if parts[2] == "create_approval_template":
            made = self.new("approvals", body)
            self.objects[parts[0]][int(parts[1])]["unified_job_template"] = made["id"]
            return 201, self.shown("approvals", made)
        linked = self.links.setdefault(path, [])
        if method == "POST":
            (linked.remove if body.get("disassociate") else linked.append)(body["id"])
            return 204, {}
        return 200, _page([{"id": identity} for identity in linked])


def _page(found: list[Any]) -> dict[str, Any]:
    return {"count": len(found), "next": None, "previous": None, "results": found}


def _fits(thing: dict[str, Any], query: dict[str, str]) -> bool:
    if "or__id" in query or "or__name" in query:
        return str(thing["id"]) == query.get("or__id") or thing.get("name") == query.get("or__name")
    plain = {key: value for key, value in query.items() if "__" not in key and key not in ("page_size", "order_by")}
    return all(str(thing.get(key)) == value for key, value in plain.items())


def _refused(endpoint: str, body: dict[str, Any]) -> str:
    if endpoint == "schedules" and not re.match(r"DTSTART(;TZID=\S+:\d{8}T\d{6}|:\d{8}T\d{6}Z) RRULE:", body["rrule"]):
        return "Valid DTSTART required in rrule."
    if endpoint == "schedules" and "INTERVAL=" not in body["rrule"]:
        return "INTERVAL required in rrule."
    if endpoint == "credential_types" and not set(body["injectors"]) <= {"file", "env", "extra_vars"}:
        return "unknown injectors"
    return ""


def serve(awx: Awx) -> ThreadingHTTPServer:
    """On a free port of this machine, in a thread; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def work(self) -> None:
            url, length = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            with awx.lock:
                if self.command != "GET":
                    awx.writes.append((self.command, url.path, body))
                status, said = awx.answer(self.command, url.path, dict(parse_qsl(url.query)), body)
            data = json.dumps(said).encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", "application/json"), ("Content-Length", str(len(data))),
                ("X-API-Product-Name", "AWX"), ("X-API-Product-Version", "24.6.1"),
            ):  # fmt: skip
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = work

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
