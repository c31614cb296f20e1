#!/usr/bin/env python3
"""Cut the few operations that Lifeboat's client and the lab's stand-in speak out of GitHub's published OpenAPI.

Usage: openapi.py [VERSION]      writes github.openapi.json beside this file; VERSION of npm's @octokit/openapi

The whole description is 13 MB. What is kept is verbatim, but for prose and examples, which validate nothing.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

PACKAGE = "@octokit/openapi"
VERSION = "23.0.2"
REGISTRY = "https://registry.npmjs.org"
OPERATIONS = {
    "repos/get-pages", "repos/create-pages-site", "repos/update-information-about-pages-site",
    "actions/get-workflow", "actions/list-workflow-runs", "actions/get-workflow-run",
    "actions/list-jobs-for-workflow-run", "actions/download-job-logs-for-workflow-run",
    "actions/re-run-workflow", "actions/re-run-workflow-failed-jobs", "actions/create-workflow-dispatch",
}  # fmt: skip
PROSE = {
    "description",
    "summary",
    "example",
    "examples",
    "externalDocs",
    "x-github",
    "x-github-breaking-changes",
    "tags",
}


def published(version: str) -> dict[str, Any]:
    """The description as npm carries it."""
    url = f"{REGISTRY}/{PACKAGE}/-/openapi-{version}.tgz"
    with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310 - https, above
        packed = io.BytesIO(answer.read())
    with tarfile.open(fileobj=packed) as archive:
        file = archive.extractfile("package/generated/api.github.com.json")
        assert file is not None
        found: dict[str, Any] = json.load(file)
    return found


def bare(value: Any, names: bool = False) -> Any:
    """Without prose. `names`: the keys of this mapping are names of properties or schemas, none of them is prose."""
    if isinstance(value, list):
        return [bare(child) for child in value]
    if not isinstance(value, dict):
        return value
    inside = {"properties", "schemas", "responses", "parameters", "headers", "paths"}
    return {
        key: bare(child, names=not names and key in inside and isinstance(child, dict))
        for key, child in value.items()
        if names or key not in PROSE
    }


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(child) for child in value.values()))
    return set().union(*(references(child) for child in value)) if isinstance(value, list) else set()


def cut(whole: dict[str, Any], version: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and operation.get("operationId") in OPERATIONS:
                paths.setdefault(path, {})[method] = bare(operation)
    found = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    assert found == OPERATIONS, f"not described: {sorted(OPERATIONS - found)}"
    components: dict[str, Any] = {}
    todo = references(paths)
    while todo:
        reference = todo.pop()
        _, _, kind, name = reference.split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = bare(whole["components"][kind][name])
            todo |= references(components[kind][name])
    return {
        "openapi": whole["openapi"],
        "info": {**{key: whole["info"][key] for key in ("title", "version", "license")},
                 "x-cut-from": f"npm {PACKAGE} {version} by tests/lab/forge/openapi.py"},
        "paths": paths,
        "components": {kind: dict(sorted(ones.items())) for kind, ones in sorted(components.items())},
    }  # fmt: skip


def main() -> int:
    version = sys.argv[1] if len(sys.argv) > 1 else VERSION
    target = Path(__file__).with_name("github.openapi.json")
    text = json.dumps(cut(published(version), version), separators=(",", ":"), sort_keys=True)
    target.write_text(f"{text}\n", encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
