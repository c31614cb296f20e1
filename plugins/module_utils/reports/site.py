# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All reports of all records as files: the history page, and of each record its page, Markdown, JUnit and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from ..evidence import store
from ..evidence.schema import Record
from ..evidence.store import StoredRecord
from . import fleet as reports_fleet
from .history import Stack, judge
from .index import index
from .junit import junit
from .markdown import markdown
from .metrics import Proof, metrics
from .record_html import html


class Face(Protocol):
    def __call__(self, record: Record, /, *, problem: str = "", signature: str = "", sha256: str = "") -> str: ...


_FLEET = "fleet.html"
FACES: Mapping[str, tuple[str, Face]] = {"html": ("html", html), "markdown": ("md", markdown), "junit": ("xml", junit)}


def face(name: str, record: Record, **known: str) -> str:
    """Return one record in one format."""
    if name == "metrics":
        return metrics([] if known.get("problem") else [record])
    return FACES[name][1](record, **known)


def as_json(body: Mapping[str, object]) -> str:
    """Return the record as it was written, which its seal covers."""
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def site(
    answers: Sequence[Mapping[str, object]], now: datetime, *, fleet: bool = False
) -> tuple[list[Stack], dict[str, bytes]]:
    """Return (the judged stacks, {path: content}). Paths are made here, of nothing that could lead elsewhere.

    fleet: the answers are of all stacks with their status, so that a page of them all is made, too.
    """
    stacks = [judge(item, now) for item in answers]
    files: dict[str, bytes] = {}
    links: dict[tuple[str, str, str], str] = {}
    for stack in stacks:
        folder = _folder(f"{stack.host}/{stack.stack}", files)
        for held in stack.records:
            if held.record and store.ID.fullmatch(held.id):
                files.update(_faces(f"{folder}/{held.id}", held, held.record))
                links[(stack.host, stack.stack, held.id)] = f"{folder}/{held.id}.html"
    files["index.html"] = _bytes(index(stacks, now, links, _FLEET if fleet else ""))
    if fleet:
        newest = {(stack.host, stack.stack): stack.records[-1].id for stack in stacks if stack.records}
        pages = {at: link for at, id in newest.items() if (link := links.get((*at, id)))}
        files[_FLEET] = _bytes(reports_fleet.html(reports_fleet.judge(answers, stacks), now, pages))
    # Labels are the inventory's: a host that was taken over could say of another's stack that it is well.
    good = [
        replace(record, host=stack.host) for stack in stacks for held in stack.records
        if (record := held.good) and record.stack == stack.stack
    ]  # fmt: skip
    files["lifeboat.prom"] = _bytes(metrics(sorted(good, key=lambda record: record.recorded_at), _proofs(stacks)))
    return stacks, files


def _proofs(stacks: Sequence[Stack]) -> list[Proof]:
    """Return the proofs by the host's name in the inventory, as its records have it."""
    found = {}
    for stack in stacks:
        for component, at in stack.proofs.items():
            proof = Proof(stack.stack, stack.host, component, at)
            found[proof.stack, proof.host, component] = proof
    return [found[labels] for labels in sorted(found)]


def _faces(path: str, item: StoredRecord, record: Record) -> dict[str, bytes]:
    known = {"problem": item.problem, "signature": item.signature, "sha256": item.sha256}
    found = {f"{path}.{ending}": _bytes(make(record, **known)) for ending, make in FACES.values()}
    return {**found, f"{path}.json": _bytes(as_json(item.body))}


def _folder(name: str, files: Mapping[str, bytes]) -> str:
    """Return a folder's name of plain letters that no other host has."""
    plain = "/".join(re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") or "_" for part in name.split("/", 1))
    number, found = 1, plain
    while any(path.startswith(f"{found}/") for path in files):
        number += 1
        found = f"{plain}_{number}"
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
