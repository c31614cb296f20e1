# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitHub's published OpenAPI as a judge of requests and answers. tests/lab/forge/openapi.py cuts and renews it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qsl, urlsplit

import jsonschema

FORGE = Path(__file__).resolve().parents[1] / "lab" / "forge"
WHOLE: dict[str, Any] = json.loads((FORGE / "github.openapi.json").read_text(encoding="utf-8"))


def schema(value: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema says null."""
    if isinstance(value, list):
        return [schema(child) for child in value]
    if not isinstance(value, dict):
        return value
    found = {key: schema(child) for key, child in value.items() if key != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if value.get("nullable") is True else found


ROOT = {"components": schema(WHOLE["components"])}


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in value:
        found: Any = WHOLE
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)
    return value


def operation(method: str, path: str) -> dict[str, Any]:
    """The operation of a request; fails loudly for one that GitHub does not describe."""
    for template, methods in WHOLE["paths"].items():
        if method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", template), path):
            return dict(methods[method.lower()])
    raise AssertionError(f"GitHub's OpenAPI has no {method} {path}")


def check(value: Any, wanted: Any) -> None:
    jsonschema.validate(value, {**schema(wanted), **ROOT}, format_checker=jsonschema.FormatChecker())


def judge_request(method: str, target: str, body: Any) -> None:
    parts = urlsplit(target)
    found = operation(method, parts.path)
    known = {
        parameter["name"]: parameter
        for parameter in map(resolved, found.get("parameters", []))
        if parameter["in"] == "query"
    }
    for name, value in parse_qsl(parts.query):
        assert name in known, f"{method} {parts.path} knows no {name}"
        kind = known[name]["schema"]
        check(int(value) if kind.get("type") == "integer" else value, kind)
    given = found.get("requestBody")
    if given:
        check(body, given["content"]["application/json"]["schema"])
    else:
        assert body is None, f"{method} {parts.path} takes no body"


def judge_answer(method: str, target: str, status: int, value: Any, headers: Optional[Any] = None) -> None:
    found = operation(method, urlsplit(target).path)
    answer = found["responses"].get(str(status))
    if answer is None:
        assert status in (401, 403, 404, 422), f"{found['operationId']} never answers {status}"
        check(value, {"$ref": "#/components/schemas/basic-error"})
        return
    content = resolved(answer).get("content", {}).get("application/json")
    if content:
        check(value, content["schema"])
    else:
        assert value is None, f"{found['operationId']} {status} has no body"
    if status == 302:
        assert (headers or {}).get("location")
