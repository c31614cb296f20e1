#!/usr/bin/env python3
"""Write docs/schema/evidence-1.json, the JSON Schema of evidence, from the types that read it.

`--check` fails where the file is not what it would be.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from plugins.module_utils.base import typed  # noqa: E402
from plugins.module_utils.evidence.schema import Record  # noqa: E402

TARGET = ROOT / "docs" / "schema" / "evidence-1.json"
# Every time that we write is UTC; a reader takes others too.
TIME = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$"}
SCALARS: Mapping[type, Mapping[str, Any]] = {
    str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"},
    datetime: TIME,
}  # fmt: skip


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type: of a dataclass, a field without a default is required."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        found = schema(arguments[0])
        for said in arguments[1:]:
            if isinstance(said, typed.Range):
                found |= {"minimum": said.least, "maximum": said.most}
            if isinstance(said, typed.Says):
                found |= said.keywords
                found |= {"description": said.words} if said.words else {}
        return found
    if origin is typing.Union:
        (inner,) = (argument for argument in arguments if argument is not type(None))
        found = schema(inner)
        return {**found, "type": [found["type"], "null"]}
    if origin is typing.Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema(arguments[0])}
    if dataclasses.is_dataclass(kind):
        return described(kind)
    if origin is not None:  # Mapping[str, ...]
        inner = schema(arguments[1])
        return {"type": "object", **({"additionalProperties": inner} if inner else {})}
    return dict(SCALARS.get(kind, {}))


def described(kind: Any) -> dict[str, Any]:
    types = typed.hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init and field.metadata.get("recorded", True)]
    required = [
        typed.key(field) for field in fields
        if field.default is field.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    return {
        "type": "object",
        "properties": {typed.key(field): schema(types[field.name]) for field in fields},
        "required": sorted(required),
        **getattr(kind, "SAYS", {}),
    }


def published() -> dict[str, Any]:
    found = schema(Record)
    first = [typed.key(field) for field in dataclasses.fields(Record) if field.default is dataclasses.MISSING]
    later = [name for name in found["properties"] if name not in (*first, *Record.SPARSE)]
    for name in later:
        found["properties"][name]["description"] = f"Since 1.1. {found['properties'][name]['description']}"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:lifeboat.dr:schema:evidence-1",
        "title": "Lifeboat evidence",
        "description": "What a recovery, a verification or a drill leaves. Version 1.x: a later minor version only "
        "adds fields, so a reader must ignore those it does not know. Version 1.0 lacks the "
        "fields that `if` asks of 1.1.",
        "type": "object",
        "properties": found["properties"],
        "required": first,
        "if": {"properties": {"version": {"prefixItems": [True, {"minimum": 1}]}}},
        "then": {"required": later},
    }


def main() -> int:
    text = json.dumps(published(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.relative_to(ROOT)} is not what the types say: run make docs", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
