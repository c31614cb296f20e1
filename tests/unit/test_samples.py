# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every picture and every sample of output in the docs has a command that makes it, and says what the code says today.

A new one fails here until SAMPLES or PICTURES names its command. A Japanese page has the samples of its English one
(test_docs_japanese.py).
"""

from __future__ import annotations

import functools
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.files import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import retention
from test_docs import DOCS, PAGES, ROOT, literals, name, prose

# A command is one of make's, or a test.
EXAMPLES = "make lint: python docs/generate_examples.py --check"
TYPED = "tests/testinfra/foreign_stack/test_readme.py::test_the_five_minutes"
HERE = "tests/unit/test_samples.py::test_a_sample_says_what_the_code_says"
PICTURES = {
    "docs/recovery.svg": EXAMPLES,
    "docs/fleet.svg": EXAMPLES,
    "docs/example/fleet.html": EXAMPLES,
    "docs/example/history.html": EXAMPLES,
    "docs/example/drill-site-page.html": EXAMPLES,
    "docs/example/drill-site.md": EXAMPLES,
    "docs/bench/results.svg": "make bench: python tests/bench/bench.py",
}
# Of a page, by the beginning of the block: what makes it.
SAMPLES = {
    "docs/first-steps.md": {
        "$ ansible-playbook -i inventories/mine lifeboat.dr.deploy": TYPED,
        "$ ansible-playbook -i inventories/mine lifeboat.dr.recover_database\n": TYPED,
        "$ ansible-playbook -i inventories/mine lifeboat.dr.recover_database -e confirm": TYPED,
        "SCENARIO ": "make drill: tests/lab/drill.sh",
    },
    "docs/commands.md": {"$ sudo lifeboat status": HERE},
    "docs/upgrade.md": {"$ ansible-playbook -i inventories/mine lifeboat.dr.undeploy": HERE},
    "docs/retention.md": {"keep    db_backup": "tests/unit/test_samples.py::test_the_example_of_retention_is_right"},
    "docs/vault.md": {"the writer's key has service accounts": HERE},
    "docs/continuous.md": {
        "the whole server comes": "tests/unit/test_physical.py::test_the_plan_says_by_what_and_what_is_lost",
        "to an instant behind": "tests/unit/test_site_instant.py::test_a_lost_site_comes_back_to_all_that_was_received",
    },
    "docs/files.md": {'{"schema": "lifeboat.dr/file-listing"': "tests/unit/test_samples.py::test_a_listing_begins_so"},
}
# Blocks that are no output of ours: files to be written, and trees that people drew.
DRAWN = {
    "docs/architecture.md": ("playbooks/ ",),
    "docs/repository.md": ("<path or s3",),
    "docs/config-backup.md": ("# /etc/systemd/system/lifeboat-look.service",),
    "docs/monitoring.md": ("* * * * * root lifeboat metrics",),
    "docs/how-a-recovery-runs.md": ("[defaults]",),
    "docs/drills.md": ("DROP TABLE app.events",),  # a role's words, and the table that drill.sh cuts out
}
PROGRAMS = re.compile(
    r"(?:\$ |sudo |[A-Z_]+=\S* |export |nice )*(?:-u \S+ )?(?:ansible[\w-]*|lifeboat|make|cd|cp|mv|rm|ls|ps|cat|tail"
    r"|install|mkdir|git|gh|npm|ssh|ssh-keygen|sftp|docker|systemctl|journalctl|curl|openssl|age|age-keygen|apt-get|psql|createdb"
    r"|pg_restore|pg|gunzip|zstd|tar|jq|rclone|amtool|promtool|python3?|pytest|runuser|uptime|ss|wc|rsyslogd|source|for"
    r"|sha256sum|mc|grep|chmod|timedatectl|echo|printf|(?:tests|docs)/\S+|…|#|\w+=|\w+\(\))(?=\W|$)|\("
)
# What a sample names: its stack, its services, its host, how much was compared. Whatever has a digit is a value.
VALUES = re.compile(
    r"\S*\d\S*(?: (?:[kMG]?B|s)\b)?"  # with its unit
    r"|\bshop\S*|\bweb\b|\bwiki\b|\bpublic\S*|\bentry\S*|\bpostgres\b|\brows and content\b|\bsetuid\b"
    r"|/\S+|\bs3://\S+|\b(?:database|objects|config|files)\b"
)


@dataclass(frozen=True)
class Block:
    page: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks without a language: what is typed, and what is printed."""
    text = page.read_text(encoding="utf-8")
    for indent, language, body in re.findall(r"^( *)```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        if language in ("", "console", "text"):
            yield Block(name(page), re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))


def is_typed(block: Block) -> bool:
    """Whether each of its lines is a command; what a line that ends with \\ goes on with is a part of it."""
    lines = [line for line in re.sub(r"\\\n", " ", block.text).splitlines() if line.strip()]
    prompts = any(line.startswith("$ ") for line in lines)
    return not prompts and all(PROGRAMS.match(line.strip()) for line in lines)


ENGLISH = [page for page in PAGES if not {"ja", "example"} & set(page.parts) and not page.name.endswith(".ja.md")]


def printed() -> list[Block]:
    return [block for page in ENGLISH for block in blocks(page) if not is_typed(block)]


def maker(block: Block) -> str:
    """The command that makes a sample, or "drawn"; empty where nobody has said it."""
    if any(block.text.startswith(begin) for begin in DRAWN.get(block.page, ())):
        return "drawn"
    return next((by for begin, by in SAMPLES.get(block.page, {}).items() if block.text.startswith(begin)), "")


def test_every_sample_of_output_has_a_command_that_makes_it() -> None:
    found = printed()
    assert [f"{block.page}: {block.text[:60]}" for block in found if not maker(block)] == []
    begins = [(page, begin) for page, known in {**SAMPLES, **DRAWN}.items() for begin in known]
    unused = [
        (page, begin)
        for page, begin in begins
        if not any(block.page == page and block.text.startswith(begin) for block in found)
    ]
    assert unused == [], "it is in no page any more"


def test_every_picture_has_a_command_that_makes_it() -> None:
    shown = {
        os.path.relpath(os.path.normpath(page.parent / target), ROOT)
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    there = {name(path) for path in DOCS.rglob("*") if path.suffix in (".svg", ".png", ".gif", ".jpg", ".html")}
    there |= {name(path) for path in (DOCS / "example").glob("*.md")}
    assert shown <= there and "docs/recovery.svg" in shown
    assert sorted(there) == sorted(PICTURES), "name the command of each in PICTURES; a picture without one is removed"


COMMANDS = sorted({*PICTURES.values(), *(by for known in SAMPLES.values() for by in known.values())})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_makes_one_is_there(command: str) -> None:
    if command.startswith("make "):
        target, _, line = command.removeprefix("make ").partition(": ")
        recipe = re.search(
            rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
        )
        assert recipe and line in recipe[1]
    else:
        path, _, function = command.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_what_is_made_of_the_code_is_of_today() -> None:
    """As `make lint` does: after a face, the first steps or the invented stacks changed, run `make docs`."""
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate_examples.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- the words of a sample ---


@functools.cache
def code_words() -> str:
    """What the core, the roles, the playbooks and the short output may say."""
    playbooks = [" ".join(path.read_text(encoding="utf-8").split()) for path in sorted(ROOT.glob("playbooks/*.yml"))]
    callbacks = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("plugins/callback/*.py"))]
    return "\n".join([literals(), *playbooks, *callbacks])


def phrases(line: str) -> list[str]:
    """The words of a printed line that the code must have: between values, names, punctuation and what is left out."""
    body = re.sub(r"^(?:shop1 \| )?(?:PASS|FAIL|COULD_NOT_VERIFY)?\s*", "", line)
    parts = re.split(r"…|\s{2,}|[:;,|()]|\.(?=\s|$)", VALUES.sub("…", body))
    return [part.strip() for part in parts if len(part.split()) > 1]


def strange(text: str, known: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("$ ")]
    return [part for line in lines for part in phrases(line) if part not in known]


@pytest.mark.parametrize("block", printed(), ids=lambda block: f"{block.page}-{block.text[:24].strip()}")
def test_a_sample_says_what_the_code_says(block: Block) -> None:
    if maker(block) in ("drawn", "") or block.text.startswith("{"):
        return
    assert strange(block.text, code_words()) == []


def quoted(text: str) -> list[str]:
    """What the tables of a page say that one sees: the `quotes` of three words or more in the first column."""
    cells = re.findall(r"^\|[^\n|]*", text, re.MULTILINE)
    return [
        quote.removeprefix("Could not ")
        for cell in cells
        for quote in re.findall(r"`([^`]+)`", cell)
        if len(quote.split()) > 2 and not PROGRAMS.match(quote) and not quote.startswith("-e ")
    ]


# Of OpenSSH and of the kernel, in `quotes` of the runbooks.
OTHERS_SAY = ("Permission denied", "administratively prohibited", "Operation not permitted")
TABLES = [page for page in ENGLISH if page.parent == DOCS and page.name not in ("architecture.md", "modules.md")]


def unsaid(text: str, known: str) -> list[str]:
    return [part for quote in quoted(text) for part in phrases(quote) if part not in known and part not in OTHERS_SAY]


@pytest.mark.parametrize("page", TABLES, ids=name)
def test_what_a_table_says_that_one_sees_is_said_by_the_code(page: Path) -> None:
    assert unsaid(prose(page), code_words()) == []


def test_a_quote_that_nobody_says_is_noticed() -> None:
    assert sum(len(quoted(prose(page))) for page in TABLES) > 60
    known = code_words()
    assert unsaid("| `the site still lives on shop1: …` and more | it means |", known) == []
    assert unsaid("| `the site is on the moon: …` | it means |\n| `lifeboat list of all` | x |", known) == [
        "the site is on the moon"
    ]


def test_the_example_of_retention_is_right() -> None:
    """A first backup, taken on a Tuesday and proved, with the default policy."""
    (block,) = (block for block in printed() if block.text.startswith("keep    db_backup"))
    at = datetime(2026, 11, 24, 15, 54, 14, tzinfo=timezone.utc)
    backup = retention.Backup("db_backup_20261124_155414", at, good=True, verified=True)
    reasons = retention.plan([backup], retention.Policy(), at).keep[backup.id]
    assert " ".join(block.text.split()) == f"keep {backup.id} {', '.join(reasons)}"


def test_a_listing_begins_so() -> None:
    """The page's three lines are read by what reads a listing."""
    (block,) = (block for block in printed() if block.text.startswith('{"schema"'))
    text = block.text.replace("ca979a8b…", "ca979a8b" * 8)
    rows = list(listing.read(io.BytesIO(text.encode()), "the page"))
    assert [(row.path, row.entry.pack) for row in rows] == [("uploads", 0), ("uploads/a.jpg", 7)]


def test_a_sample_that_the_code_does_not_say_is_noticed() -> None:
    known = literals()
    assert strange("PASS             config secrets: 2 files, sealed for 1 recipients", known) == []
    assert strange("PASS             config secrets: 2 files, locked for 1 recipients", known) == ["locked for"]
    assert not is_typed(Block("x", "lifeboat list\nPASS  shop\n")) and is_typed(Block("x", "lifeboat list\n"))
    assert maker(Block("docs/x.md", "PASS")) == ""
