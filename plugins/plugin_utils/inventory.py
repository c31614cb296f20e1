# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory of a stack as a file, written on the controller from what a host answered.

A host may be taken over, and the owner of a Compose project chooses its names. An inventory is code: Ansible renders
its texts, and reads variables that decide where and how it connects. So the names of variables and keys are ours, and
every text is a quoted YAML scalar in ASCII: what YAML or Jinja would read as more than a text is escaped or marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union

import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, printable
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.discover import PLAIN, RECIPIENT, VAULT, Draft

_ATTEMPTED = "write the inventory of a Compose project"
# Beyond these an answer is no inventory that a person reads.
_LONGEST, _MOST_ENTRIES, _MOST_NOTES = 4096, 200, 1000
# Of a pair the first is what may stand there instead of the second.
_Shape = Union[type, str, bool, list["_Shape"], dict[str, "_Shape"], tuple["_Shape", "_Shape"]]
# What a host may tell. A text is the only one that is taken.
VARIABLES: dict[str, _Shape] = {
    "lifeboat_runtime": {"project_directory": str, "files": [str], "project": str},
    "lifeboat_database": (False, {"service": str, "name": str, "user": str}),
    "lifeboat_files": {"sources": [{"name": str, "volume": str, "path": str}]},
    "lifeboat_repository": {"type": "local", "path": str},
    "lifeboat_application": {"checks": [{"url": str}]},
    "lifeboat_dumps": {"sources": [{"name": str, "service": str, "preset": str, "data": str}]},
}
LATER: dict[str, _Shape] = {
    "lifeboat_objects": {
        "service": str, "endpoint_url": str, "port": int, "ca_bundle": str, "data_directory": str,
        "admin": {"api": "minio"}, "buckets": ["*"], "bucket": str,
    },
    "lifeboat_vault": {"endpoint_url": VAULT, "objects_bucket": str, "repository_bucket": str},
    "lifeboat_config": {"recipients": [RECIPIENT]},
    "lifeboat_mounts": {"exclude": [{"name": str, "reason": "..."}]},
}  # fmt: skip


@dataclass(frozen=True)
class _Text:
    """A text that Ansible would render, were it not marked."""

    text: str


class _Dumper(yaml.SafeDumper):  # type: ignore[misc,unused-ignore] # it has no types
    """Quotes every text that is not a key of ours, and shares nothing."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    # Only a key of the shapes is written as it is.
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=None if data in _KEYS else '"')


def _marked(dumper: yaml.SafeDumper, data: _Text) -> yaml.Node:
    return dumper.represent_scalar("!unsafe", data.text, style='"')


_Dumper.add_representer(str, _quoted)
_Dumper.add_representer(_Text, _marked)


def _keys(shape: _Shape) -> set[str]:
    if isinstance(shape, dict):
        return {*shape, *(key for inner in shape.values() for key in _keys(inner))}
    if isinstance(shape, tuple):
        return _keys(shape[1])
    return _keys(shape[0]) if isinstance(shape, list) else set()


_KEYS = {"lifeboat_stack", *_keys(VARIABLES), *_keys(LATER)}


def draft_of(answer: Mapping[str, object]) -> Draft:
    """Return a module's answer as the draft of an inventory. Raises LifeboatError where it is something else."""
    names = ("stack", "variables", "later", "unclear", "wanted")
    draft = typed.build(Draft, {name: answer.get(name) for name in names}, _refusal)
    if not PLAIN.fullmatch(draft.stack):
        raise _refusal("stack", "is not the name of a stack")
    for title, notes in (("unclear", draft.unclear), ("wanted", draft.required)):
        if len(notes) > _MOST_NOTES:
            raise _refusal(title, f"has more than {_MOST_NOTES} entries")
        for note in notes:
            _text(note, title)
    _check(draft.variables, VARIABLES, "variables")
    _check(draft.later, LATER, "later")
    return draft


def _refusal(at: str, cause: str) -> LifeboatError:
    return LifeboatError(
        _ATTEMPTED, "the host's answer", f"{printable(at)[:200]} {printable(cause)[:200]}",
        "No file was written. The collection's own module does not answer this: the host may be compromised.",
    )  # fmt: skip


def _check(value: object, shape: _Shape, at: str) -> None:
    if isinstance(shape, tuple):
        instead, shape = shape
        if value is instead:
            return
    if isinstance(shape, dict):
        _check_mapping(value, shape, at)
    elif isinstance(shape, list):
        _check_list(value, shape[0], at)
    elif isinstance(shape, str):
        if value != shape:
            raise _refusal(at, f"is not {shape!r}")
    elif shape is int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 16:
            raise _refusal(at, "is not a port")
    else:
        _text(value, at)


def _check_list(value: object, shape: _Shape, at: str) -> None:
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_ENTRIES:
        raise _refusal(at, f"is not a list of at most {_MOST_ENTRIES} entries")
    for inner in value:
        _check(inner, shape, at)


def _check_mapping(value: object, shape: Mapping[str, _Shape], at: str) -> None:
    if not isinstance(value, Mapping):
        raise _refusal(at, "is not a mapping")
    for name, inner in value.items():
        if name not in shape:
            raise _refusal(at, f"has the key {str(name)[:100]!r}, which an inventory of init has not")
        _check(inner, shape[name], f"{at}.{name}")


def _text(value: object, at: str) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _refusal(at, f"is not a text of at most {_LONGEST} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _refusal(at, "is not UTF-8")


def text(draft: Draft) -> str:
    """Return the file of the inventory: ASCII, and with no line break but its own."""
    lines = [
        "---", "# Written by lifeboat.dr.init from the running Compose project. Read it, correct it, then deploy.",
        "# docs/variables.md describes every key.", *_lines({"lifeboat_stack": draft.stack, **draft.variables}),
    ]  # fmt: skip
    if draft.later:
        lines += ["", "# Complete these, then remove the comment signs."]
        lines += [f"# {line}" for line in _lines(draft.later)]
    for title, items in (("Could not be interpreted:", draft.unclear), ("To be provided:", draft.required)):
        if items:
            lines += ["", f"# {title}", *(f"# * {_ascii(item)}" for item in items)]
    return "\n".join([*lines, ""])


def _lines(value: Mapping[str, object]) -> Iterable[str]:
    dumped: str = yaml.dump(
        _for_yaml(value), Dumper=_Dumper, allow_unicode=False, default_flow_style=False, sort_keys=False,
        width=float("inf"),
    )  # fmt: skip
    return dumped.rstrip("\n").split("\n")


def _for_yaml(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _for_yaml(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_yaml(inner) for inner in value]
    # ansible-core 2.19 reads a marked scalar once more by YAML's rules (`no` is a boolean then), so only these are:
    # with a delimiter of Jinja's, or the header that changes them, no text is anything but a text.
    return _Text(value) if isinstance(value, str) and ("{" in value or "#jinja2:" in value) else value


def _ascii(note: str) -> str:
    return printable(" ".join(note.split())).encode("ascii", "backslashreplace").decode("ascii")
