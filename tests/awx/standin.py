"""Enough of AWX's REST API for the modules of awx.awx 24.6: objects, filters, pages, associations, surveys, approvals.

It refuses what a real AWX 24.6.1 refuses, with its words (rules.py), and starts jobs as AWX does (jobs.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
import jobs
from rules import answer_errors, rrule_errors, survey_error

ROOT = Path(__file__).resolve().parents[2]
Answer = tuple[int, Any]
NOTIFICATIONS = tuple(f"notification_templates_{event}" for event in ("error", "success", "started"))
RELATED = {
    "job_templates": ("labels", "credentials", "survey_spec", "instance_groups", "launch", *NOTIFICATIONS),
    "workflow_job_templates": (
        "labels", "survey_spec", "workflow_nodes", "launch", "notification_templates_approvals", *NOTIFICATIONS,
    ),
    "workflow_job_template_nodes": ("success_nodes", "failure_nodes", "always_nodes", "credentials"),
    "projects": ("update", *NOTIFICATIONS),
    "inventory_sources": NOTIFICATIONS,
    "schedules": ("credentials", "labels"),
}  # fmt: skip
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources")
# The types of a notification's settings; those of the type password are not returned.
NOTIFIERS: dict[str, dict[str, tuple[type, Any]]] = {
    "slack": {"token": (str, None), "channels": (list, None)},
    "pagerduty": dict.fromkeys(("token", "subdomain", "service_key", "client_name"), (str, None)),
    "webhook": {
        "url": (str, None), "headers": (dict, None), "http_method": (str, "POST"),
        "disable_ssl_verification": (bool, False), "username": (str, ""), "password": (str, ""),
    },
    "email": {
        "host": (str, None), "port": (int, None), "username": (str, None), "password": (str, None),
        "sender": (str, None),
        "use_tls": (bool, None), "use_ssl": (bool, None), "recipients": (list, None), "timeout": (int, 30),
    },
}  # fmt: skip
SECRETS = ("token", "password")
# The kind of credential that a type is, for what AWX allows only one of.
CREDENTIAL_TYPES = {"Machine": "ssh", "Vault": "vault", "Source Control": "scm"}


class Awx:
    """The state, and what was written: [(method, path, body)]."""

    def __init__(self, credentials: Mapping[str, str] | None = None, checkout: Path = ROOT) -> None:
        """`credentials` are names with their types; `checkout` is the repository that the project's URL means."""
        self.objects: dict[str, dict[int, dict[str, Any]]] = {}
        self.links: dict[str, list[int]] = {}
        self.specs: dict[str, Any] = {}
        self.writes: list[tuple[str, str, Any]] = []
        self.lock = threading.Lock()
        self.token = "an-oauth-token"
        self.checkout = checkout
        self.reachable = True  # whether an update of the project succeeds
        self.private = False  # whether it needs a credential
        self.breaks_at = ""  # what the path of the writes has to which the answer is 500, an expression
        self.new("organizations", {"name": "Default"})
        for name, kind in CREDENTIAL_TYPES.items():
            self.new("credential_types", {"name": name, "kind": kind, "managed": True, "injectors": {}})
        for name, kind in (credentials or {}).items():
            self.add_credential(name, kind)

    def new(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        number = 1 + max((key for some in self.objects.values() for key in some), default=0)
        return self.objects.setdefault(endpoint, {}).setdefault(number, {**body, "id": number})

    def named(self, endpoint: str, name: str) -> dict[str, Any]:
        return next(entry for entry in self.objects.get(endpoint, {}).values() if entry["name"] == name)

    def add_credential(self, name: str, kind: str, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self.new("credentials", {
            "name": name, "credential_type": self.named("credential_types", kind)["id"], "inputs": dict(inputs or {}),
        })  # fmt: skip

    def credential_kind(self, number: int) -> str:
        kind: str = self.objects["credential_types"][self.objects["credentials"][number]["credential_type"]]["name"]
        return kind

    def survey(self, number: int) -> list[dict[str, Any]]:
        """Of a job template or a workflow, where it is enabled."""
        for endpoint in ("job_templates", "workflow_job_templates"):
            if self.objects.get(endpoint, {}).get(number, {}).get("survey_enabled"):
                questions: list[dict[str, Any]] = self.specs.get(f"/api/v2/{endpoint}/{number}/survey_spec/", {}).get(
                    "spec", []
                )
                return questions
        return []

    def shown(self, endpoint: str, thing: dict[str, Any]) -> dict[str, Any]:
        url = f"/api/v2/{endpoint}/{thing['id']}/"
        related = {name: f"{url}{name}/" for name in RELATED.get(endpoint, ())}
        shown = {
            **thing,
            "url": url,
            "type": endpoint.removesuffix("s").replace("inventorie", "inventory"),
            "related": related,
        }
        if endpoint == "workflow_job_template_nodes":
            related["create_approval_template"] = f"{url}create_approval_template/"
            if thing.get("unified_job_template"):
                related["unified_job_template"] = self.unified_url(thing["unified_job_template"])
        if endpoint == "notification_templates":
            shown["notification_configuration"] = {
                name: "$encrypted$" if name in SECRETS and value else value
                for name, value in thing["notification_configuration"].items()
            }
        current = {"current_update": {"id": thing["update"]}} if thing.get("update") else {}
        return {**shown, "summary_fields": current}

    def unified_url(self, number: int) -> str:
        endpoint = next(
            name for name in (*UNIFIED, "workflow_approval_templates") if number in self.objects.get(name, {})
        )
        return f"/api/v2/{endpoint}/{number}/"

    # --- requests ---

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        parts = [part for part in path.split("/") if part][2:]
        if not parts or parts[0] in ("ping", "me", "config"):
            return 200, {"version": "24.6.1", **_page([], {}, path)}
        endpoint = parts[0]
        kinds = UNIFIED if endpoint == "unified_job_templates" else (endpoint,)
        every = [self.shown(kind, thing) for kind in kinds for thing in self.objects.get(kind, {}).values()]
        if len(parts) == 1 and method == "GET":
            return 200, _page([thing for thing in every if self._fits(thing, query)], query, path)
        if len(parts) == 1:
            return self._made(endpoint, body)
        shown = next((thing for thing in every if str(thing["id"]) == parts[1]), None)
        if shown is None:
            return 404, {"detail": "Not found."}
        if len(parts) > 2:
            return self._below(method, path, parts, query, body)
        return self._changed(endpoint, shown["id"], body) if method == "PATCH" else (200, shown)

    def _made(self, endpoint: str, body: dict[str, Any]) -> Answer:
        errors = self._errors(endpoint, body, body)
        if errors:
            return 400, errors
        made = self.new(endpoint, body)
        self._settled(endpoint, made)
        return 201, self.shown(endpoint, made)

    def _changed(self, endpoint: str, number: int, body: dict[str, Any]) -> Answer:
        stored = self.objects[endpoint][number]
        errors = self._errors(endpoint, {**stored, **body}, body)
        if errors:
            return 400, errors
        stored.update(self._readable(endpoint, body))
        self._settled(endpoint, stored, body)
        return 200, self.shown(endpoint, stored)

    def _below(self, method: str, path: str, parts: list[str], query: dict[str, str], body: dict[str, Any]) -> Answer:
        endpoint, number, name = parts[0], int(parts[1]), parts[2]
        if name == "survey_spec":
            if method == "POST":
                error = survey_error(body)
                if error:
                    return 400, {"error": error}
                self.specs[path] = body
            return 200, self.specs.get(path, {})
        if name == "create_approval_template":
            made = self.new("workflow_approval_templates", self._readable("workflow_approval_templates", body))
            self.objects[endpoint][number]["unified_job_template"] = made["id"]
            return 201, self.shown("workflow_approval_templates", made)
        if name == "update":
            return 202, self.shown("project_updates", self._update(self.objects["projects"][number]))
        if name == "launch":
            return self._launched(endpoint, number, body)
        linked = self.links.setdefault(path, [])
        if method == "POST":
            refused = self._link_error(endpoint, number, name)
            if refused and not body.get("disassociate"):
                return 400, {"msg": refused}
            (linked.remove if body.get("disassociate") else linked.append)(body["id"])
            return 204, {}
        return 200, _page([{"id": identity} for identity in linked], query, path)

    def _readable(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """What AWX stores of a body. An approval has no identifier: what is sent is forgotten."""
        if endpoint == "workflow_approval_templates":
            return {name: body[name] for name in ("name", "description", "timeout") if name in body}
        return body

    def _fits(self, thing: dict[str, Any], query: dict[str, str]) -> bool:
        if "or__id" in query or "or__name" in query:
            return str(thing["id"]) == query.get("or__id") or thing.get("name") == query.get("or__name")
        for key, value in query.items():
            name, _, how = key.partition("__")
            if how == "startswith" and not str(thing.get(name, "")).startswith(value):
                return False
            if not how and name not in ("page_size", "page", "order_by") and str(thing.get(name)) != value:
                return False
        return True

    # --- what is refused ---

    def _errors(self, endpoint: str, whole: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
        if endpoint == "schedules":
            return self._schedule_errors(whole, sent)
        if endpoint == "workflow_job_template_nodes" and whole.get("unified_job_template"):
            return self._prompt_errors(whole["unified_job_template"], whole, required=False)
        if endpoint == "job_templates":
            project = self.objects["projects"][whole["project"]]
            if whole["playbook"] not in project["playbook_files"]:
                return {"playbook": ["Playbook not found for project."]}
        vaulted = whole.get("credential") and self.credential_kind(whole["credential"]) == "Vault"
        if endpoint == "inventory_sources" and whole.get("source") == "scm" and vaulted:
            return {"credential": ["Credentials of type insights and vault are disallowed for scm inventory sources."]}
        if endpoint == "credential_types" and not set(whole["injectors"]) <= {"file", "env", "extra_vars"}:
            return {"injectors": ["Schema validation error."]}
        if endpoint == "notification_templates":
            return self._notification_errors(whole)
        return {}

    def _schedule_errors(self, whole: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
        if set(sent) == {"enabled"} and not sent["enabled"]:
            return {}
        if "rrule" not in whole:
            return {"rrule": ["This field is required."]}
        rules = rrule_errors(whole["rrule"]) if "rrule" in sent else []
        if rules:
            return {"rrule": rules}
        # A change of what is not asked at a launch, such as `enabled`, is not checked again.
        prompts = {"extra_data", "job_type", "credentials", "limit", "inventory"} & set(sent)
        return self._prompt_errors(whole["unified_job_template"], whole) if prompts or "id" not in whole else {}

    def _prompt_errors(self, number: int, config: Mapping[str, Any], required: bool = True) -> dict[str, Any]:
        template = self.objects.get("job_templates", {}).get(number, {})
        survey, answers = self.survey(number), config.get("extra_data", {})
        errors: dict[str, Any] = {}
        wrong = answer_errors(survey, answers, required)
        if wrong:
            errors["variables_needed_to_start"] = wrong
        unknown = set(answers) - {question["variable"] for question in survey}
        if unknown and not template.get("ask_variables_on_launch"):
            errors["extra_data"] = [f"Variables {', '.join(sorted(unknown))} are not allowed on launch."]
        if config.get("job_type") not in (None, template.get("job_type")) and not template.get(
            "ask_job_type_on_launch"
        ):
            errors["job_type"] = "Field is not configured to prompt on launch."
        return errors

    def _notification_errors(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        config, fields = whole["notification_configuration"], NOTIFIERS[whole["notification_type"]]
        absent = [name for name, (_, default) in fields.items() if name not in config and default is None]
        if absent:
            return {"non_field_errors": [f"Missing required fields for Notification Configuration: {absent}."]}
        for name, (kind, default) in fields.items():
            if type(config.setdefault(name, default)) is not kind:
                return {"non_field_errors": [f"Configuration field '{name}' incorrect type, expected {kind.__name__}."]}
        return {}

    def _link_error(self, endpoint: str, number: int, name: str) -> str:
        if endpoint == "workflow_job_template_nodes" and name == "credentials":
            template = self.objects[endpoint][number].get("unified_job_template")
            if not self.objects["job_templates"].get(template, {}).get("ask_credential_on_launch"):
                return "Related template is not configured to accept credentials on launch."
        return ""

    # --- projects ---

    def _settled(self, endpoint: str, thing: dict[str, Any], sent: Mapping[str, Any] | None = None) -> None:
        """A project is updated when it is made and when its source changes, and at no other time."""
        if endpoint == "projects" and (sent is None or {"scm_url", "scm_branch", "credential"} & set(sent)):
            thing.setdefault("playbook_files", [])
            thing.setdefault("scm_revision", "")
            thing["update"] = self._update(thing)["id"]

    def _update(self, project: dict[str, Any]) -> dict[str, Any]:
        good = self.reachable and not (self.private and not project.get("credential"))
        if good:
            files = sorted(f"playbooks/{path.name}" for path in (self.checkout / "playbooks").glob("*.yml"))
            project.update(playbook_files=files, scm_revision=f"c0ffee{len(files)}")
        project["status"] = status = "successful" if good else "failed"
        return self.new("project_updates", {
            "name": project["name"], "status": status, "failed": not good, "scm_revision": project["scm_revision"],
            "finished": "2026-11-30T18:00:00Z", "event_processing_finished": True,
        })  # fmt: skip

    # --- launches ---

    def _launched(self, endpoint: str, number: int, body: Mapping[str, Any]) -> Answer:
        template = self.objects[endpoint][number]
        answers, survey = body.get("extra_vars", {}), self.survey(number)
        errors: dict[str, Any] = {}
        wrong = answer_errors(survey, answers)
        if wrong:
            errors["variables_needed_to_start"] = wrong
        asked = {question["variable"] for question in survey}
        unknown = (
            {}
            if template.get("ask_variables_on_launch")
            else {name: answers[name] for name in answers if name not in asked}
        )
        ignored: dict[str, Any] = {"extra_vars": unknown} if unknown else {}
        prompts = {"job_type": "ask_job_type_on_launch", "credentials": "ask_credential_on_launch"}
        for field, asks in prompts.items():
            if field in body and not template.get(asks):
                ignored[field] = body[field]
        credentials = self.links.get(f"/api/v2/{endpoint}/{number}/credentials/", [])
        if "credentials" in body and "credentials" not in ignored:
            kinds = [self.credential_kind(each) for each in body["credentials"]]
            lost = [
                each
                for each in credentials
                if each not in body["credentials"] and self.credential_kind(each) not in kinds
            ]
            if lost:
                kind, names = (
                    self.credential_kind(lost[0]),
                    [self.objects["credentials"][each]["name"] for each in lost],
                )
                errors["credentials"] = [
                    f"Removing {kind} credential at launch time without replacement is not supported."
                    f" Provided list lacked credential(s): {', '.join(names)}."
                ]
            credentials = body["credentials"]
        if errors:
            return 400, errors
        waits = any(
            job["template"] == number and job["status"] in ("pending", "waiting")
            for job in self.objects.get("jobs", {}).values()
        )
        job = self.new("jobs", {
            "template": number, "status": "pending" if waits and not template.get("allow_simultaneous") else "waiting",
            "extra_vars": self._with_defaults(number, {name: answers[name] for name in answers if name in asked}),
            "job_type": template.get("job_type", "run") if "job_type" in ignored else body.get("job_type", "run"),
            "credentials": list(credentials),
        })  # fmt: skip
        return 201, {**job, "job": job["id"], "ignored_fields": ignored}

    def _with_defaults(self, number: int, answers: Mapping[str, Any]) -> dict[str, Any]:
        """A job's variables: the survey's defaults, where they are valid answers, and over them what was answered."""
        defaults = {
            question["variable"]: question["default"]
            for question in self.survey(number)
            if question.get("default") is not None
            and not answer_errors([question], {question["variable"]: question["default"]})
        }
        return {**defaults, **answers}

    def launch(self, name: str, answers: Mapping[str, Any], **prompts: Any) -> Answer:
        """Launch a job template or a workflow through the API."""
        endpoint = next(
            kind for kind in UNIFIED if any(each["name"] == name for each in self.objects.get(kind, {}).values())
        )
        path = f"/api/v2/{endpoint}/{self.named(endpoint, name)['id']}/launch/"
        return self.answer("POST", path, {}, {"extra_vars": dict(answers), **prompts})

    def workflow_jobs(self, name: str, answers: Mapping[str, Any], approve: bool) -> list[dict[str, Any]]:
        """The jobs that a launch of a workflow starts, in their order, as far as the approval lets them.

        The workflow's answers reach each node unchecked, those too that its survey does not ask for.
        """
        status, launched = self.launch(name, answers)
        if status != 201:
            raise ValueError(launched)
        nodes = {
            number: node for number, node in self.objects["workflow_job_template_nodes"].items()
            if node["workflow_job_template"] == launched["template"]
        }  # fmt: skip
        after = {
            number: self.links.get(f"/api/v2/workflow_job_template_nodes/{number}/success_nodes/", [])
            for number in nodes
        }
        queue = [number for number in nodes if not any(number in following for following in after.values())]
        started = []
        while queue:
            number = queue.pop(0)
            node, template = nodes[number], nodes[number]["unified_job_template"]
            if template in self.objects["workflow_approval_templates"] and not approve:
                continue
            if template in self.objects["job_templates"]:
                own = self.links.get(f"/api/v2/job_templates/{template}/credentials/", [])
                more = self.links.get(f"/api/v2/workflow_job_template_nodes/{number}/credentials/", [])
                answered = {**node.get("extra_data", {}), **launched["extra_vars"]}
                started.append(self.new("jobs", {
                    "template": template, "status": "waiting", "node": node["identifier"],
                    "job_type": node.get("job_type", "run"), "credentials": [*own, *more],
                    "extra_vars": self._with_defaults(template, answered),
                }))  # fmt: skip
            queue += after[number]
        return started

    # --- jobs ---

    def run(
        self, job: dict[str, Any], folder: Path, inventory: Path | str, environment: Mapping[str, str] | None = None
    ) -> jobs.Result:
        """Run a job as AWX does: its inventory is read first, and its credentials bring variables and files."""
        template = self.objects["job_templates"][job["template"]]
        sources = self.objects.get("inventory_sources", {}).values()
        read = [each for each in sources if each["inventory"] == template["inventory"] and each["update_on_launch"]]
        if not all(self.reads(source) for source in read):
            job["status"] = "failed"
            return jobs.Result("failed", 1, "Previous Task Failed", ())
        injected = self._inject(job, folder)
        variables = {**job["extra_vars"], **jobs.job_variables(job["id"], template)}
        launch = jobs.Launch(
            template["playbook"],
            variables,
            inventory,
            job_type=job["job_type"],
            project=self.checkout,
            environment={"ANSIBLE_CONFIG": "", **(environment or {})},
            injected=injected,
        )
        result = jobs.run(launch, folder)
        job["status"] = result.status
        return result

    def reads(self, source: Mapping[str, Any]) -> bool:
        """Read an inventory of the project, without a vault password, as AWX does."""
        path = self.checkout / source["source_path"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path), "--list"],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def _inject(self, job: Mapping[str, Any], folder: Path) -> Path | None:
        """Write the files and the variables that the types of a job's credentials inject, as AWX renders them."""
        (folder / "env").mkdir(parents=True, exist_ok=True)
        variables: dict[str, Any] = {}
        for number in job["credentials"]:
            credential = self.objects["credentials"][number]
            injectors = self.objects["credential_types"][credential["credential_type"]]["injectors"]
            names: dict[str, Any] = dict(credential["inputs"])
            if "file" in injectors:
                file = folder / "env" / f"credential-{number}"
                file.write_text(
                    jinja2.Template(injectors["file"]["template"], keep_trailing_newline=True).render(names),
                    encoding="utf-8",
                )
                names["tower"] = {"filename": str(file)}
            for name, template in injectors.get("extra_vars", {}).items():
                variables[name] = jinja2.Template(template).render(names)
        if not variables:
            return None
        target = folder / "env" / "credentials.yml"
        target.write_text(jobs.answers_file(variables), encoding="utf-8")
        return target


def _page(entries: Sequence[Any], query: Mapping[str, str], path: str) -> dict[str, Any]:
    size, number = int(query.get("page_size", 25)), int(query.get("page", 1))
    following = f"{path}?{urlencode({**query, 'page': number + 1})}" if len(entries) > size * number else None
    return {
        "count": len(entries),
        "next": following,
        "previous": None,
        "results": entries[size * (number - 1) : size * number],
    }


def serve(awx: Awx) -> ThreadingHTTPServer:
    """On a free port of this machine, in a thread; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def work(self) -> None:
            url, length = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            with awx.lock:
                status, content = self.reply(url.path, dict(parse_qsl(url.query)), body)
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", "application/json"), ("Content-Length", str(len(data))),
                ("X-API-Product-Name", "AWX"), ("X-API-Product-Version", "24.6.1"),
            ):  # fmt: skip
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def reply(self, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
            if self.headers.get("Authorization") != f"Bearer {awx.token}":
                return 401, {"detail": "Authentication credentials were not provided."}
            if self.command != "GET":
                awx.writes.append((self.command, path, body))
                if awx.breaks_at and re.search(awx.breaks_at, path):
                    return 500, {"detail": "A server error has occurred."}
            return awx.answer(self.command, path, query, body)

        do_GET = do_POST = do_PATCH = do_DELETE = work

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
