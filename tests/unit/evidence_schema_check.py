# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records against the published schema, twice: as readers must take it, and closed, so that no field is unpublished."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).resolve().parents[2] / "docs/schema/evidence-1.json"


@functools.cache
def published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def closed(part: Any) -> Any:
    """The same schema, where an object may have no field that the schema does not describe."""
    if isinstance(part, list):
        return [closed(child) for child in part]
    if not isinstance(part, dict):
        return part
    made = {key: closed(child) for key, child in part.items()}
    if "properties" in part and "type" in part and "additionalProperties" not in part:
        made["additionalProperties"] = False
    return made


@functools.cache
def validator(*, strict: bool) -> Any:
    schema = published()
    jsonschema.Draft202012Validator.check_schema(schema)
    made = closed(schema) if strict else schema
    return jsonschema.Draft202012Validator(made, format_checker=jsonschema.FormatChecker())


def problems(record: Any, *, strict: bool = True) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(strict=strict).iter_errors(record)]
