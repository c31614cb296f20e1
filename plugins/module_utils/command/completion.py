# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Completion of the `lifeboat` command in bash and zsh, made from its own parser: it knows no more and no less."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ..base.errors import LifeboatError
from ..evidence import store
from ..repository import components, repositories
from ..settings import config
from ..stack.runtime import Opened
from . import explain

SHELLS = ("bash", "zsh")
# What only the host knows: by the verb ("" is any) and the option or argument.
_KNOWN = {
    ("", "stack"): "stacks",
    ("verify", "id"): "backups",
    ("escrow", "point"): "points",
    ("recover", "recovery_point"): "backups",
    ("report", "id"): "records",
    ("review", "id"): "records",
    ("explain", "alert"): "alerts",
}
KINDS = tuple(dict.fromkeys(_KNOWN.values()))
_MOST = 200  # newest; a shell that offers more helps nobody
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# bash cuts --level=restore into three words, zsh does not; an argument that begins with a dash is an option's name.
_FUNCTION = """\
# Completion of the lifeboat command, made from its own parser. Written by lifeboat; changes are lost.
_lifeboat_known() {
    timeout 5 "${COMP_WORDS[0]}" completion bash --known="$1" --stack="$2" 2>/dev/null
}

_lifeboat() {
    local current="${COMP_WORDS[COMP_CWORD]}" verb='' option='' stack='' given=0 words='' word i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [[ $word == '=' ]]; then
            continue
        elif [[ -n $option ]]; then
            if [[ $option == --stack ]]; then stack="$word"; fi
            option=''
        elif [[ $word == -* ]]; then
            case "$verb:$word" in
            @TAKING@) option="$word" ;;
            esac
        elif [[ -z $verb ]]; then
            verb="$word"
        else
            given=$((given + 1))
        fi
    done
    if [[ $current == '=' ]]; then current=''; fi
    if [[ -n $option ]]; then
        word="$verb:$option"
    elif [[ $current == -* ]]; then
        word="$verb:-"
    else
        word="$verb:$given"
    fi
    case "$word" in
@CASES@
    esac
    if [[ $words == '<files>' ]]; then
        words=''
        if type compopt >/dev/null 2>&1; then compopt -o default; else COMPREPLY=($(compgen -f -- "$current")); fi
    fi
    if [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); fi
}

complete -F _lifeboat lifeboat
"""
_ZSH = """\
whence compdef >/dev/null || { autoload -Uz compinit && compinit -i }
autoload -Uz bashcompinit && bashcompinit
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options. The hidden ones are what the script asks at the tab key."""
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    parser.add_argument("--known", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--stack", default="", help=argparse.SUPPRESS)
    parser.add_argument("--config-directory", type=Path, default=config.DIRECTORY, help=argparse.SUPPRESS)


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Write the script, or the names that it asks for. It needs no configuration and writes no log: a tab key is no
    place for an error."""
    if arguments.known:
        names = known(arguments.known, arguments.stack, arguments.config_directory)
        sys.stdout.writelines(f"{name}\n" for name in names)
    else:
        sys.stdout.write(script(parser, arguments.shell))
    return 0


def script(parser: argparse.ArgumentParser, shell: str = "bash") -> str:
    """Return the script: the same bytes for the same parser."""
    cases, taking = [_case("", "-", _flags(parser)), _case("", "0", list(_verbs(parser)))], []
    for verb, item in _verbs(parser).items():
        cases.append(_case(verb, "-", _flags(item)))
        position = 0
        for action in _shown(item):
            if action.nargs == 0:
                continue
            if not action.option_strings:
                cases.append(_case(verb, str(position), _values(verb, action)))
                position += 1
            for name in action.option_strings:
                taking.append(f"{verb}:{name}")
                cases.append(_case(verb, name, _values(verb, action)))
    lines = "\n".join(case for case in cases if case)
    text = _FUNCTION.replace("@TAKING@", " | ".join(taking)).replace("@CASES@", lines)
    return _ZSH + text if shell == "zsh" else text


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _shown(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction):
            yield action


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [action.option_strings[-1] for action in _shown(parser) if action.option_strings]


def _values(verb: str, action: argparse.Action) -> list[str] | str:
    """Return the words to offer, the name of what only the host knows, or <files>."""
    known = _KNOWN.get((verb, action.dest)) or _KNOWN.get(("", action.dest))
    if known:
        return known
    if action.choices:
        return [str(choice) for choice in action.choices]
    return "<files>" if action.metavar in ("FILE", "DIRECTORY") or action.dest == "ca_bundle" else []


def _case(verb: str, position: str, offered: list[str] | str) -> str:
    if not offered:
        return ""
    if offered in KINDS:
        words = f'$(_lifeboat_known {offered} "$stack")'
        return f'    {verb}:{position}) words="{words}" ;;'
    return f"    {verb}:{position}) words={shlex.quote(offered if isinstance(offered, str) else ' '.join(offered))} ;;"


def known(kind: str, stack: str, directory: Path) -> list[str]:
    """List what the host knows without asking the network. Only plain words: the shell expands what it is offered."""
    try:
        return [name for name in _ids(kind, stack, directory) if _PLAIN.fullmatch(name)][-_MOST:]
    except (LifeboatError, OSError):
        return []


def _ids(kind: str, stack: str, directory: Path) -> list[str]:
    if kind == "stacks":
        return config.stacks(directory)
    if kind == "alerts":
        return list(explain.read(explain.LANGUAGES[0]))
    loaded = config.load(stack, directory)
    if kind == "records":
        return store.ids(loaded)
    if not loaded.backup_directory:
        return []
    repo = repositories.repository_of(Opened(loaded))
    named = components.KINDS if kind == "backups" else ()
    return [*(name for component in named for name in repo.published(component)), *repo.points()]
