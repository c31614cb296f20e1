# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook's steps by hand bring everything of a files backup back, with age, zstd, tar and Python alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from test_docs import DOCS
from test_files import World, needs_root, portrait

PAGES = [DOCS / "runbook-files.md", DOCS / "ja" / "runbook-files.md"]
MISSING = [tool for tool in ("age", "age-keygen", "zstd", "tar") if shutil.which(tool) is None]


def steps(page: Path) -> list[str]:
    """The blocks of the chapter: what is needed, unpack, what is in no pack, put it in its place."""
    chapter = page.read_text(encoding="utf-8").partition("\n## 7.")[2]
    return re.findall(r"^```sh\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE)


def key(folder: Path) -> str:
    """Make an identity there; returns its recipient."""
    subprocess.run(["age-keygen", "-o", str(folder / "key.txt")], check=True, capture_output=True)
    shown = subprocess.run(["age-keygen", "-y", str(folder / "key.txt")], check=True, capture_output=True, text=True)
    return shown.stdout.strip()


@needs_root
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("page", PAGES, ids=["en", "ja"])
def test_the_steps_by_hand_bring_everything_back(page: Path, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings["encryption"] = {"recipients": [key(tmp_path)]}
    world.fill()
    with (world.root / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"x")
        file.truncate(60 << 20)
    os.setxattr(world.root / "mode", "user.a", b"\xff1")
    os.setxattr(world.root / "a", "user.b", b"2")
    os.chown(world.root / "a" / "one.txt", 1234, 55)
    for name in ("é ü.txt", "-T", "back\\nslash", "gone"):
        (world.root / name).write_text(name, encoding="utf-8")
    earlier = world.take()
    time.sleep(1.01 - time.time() % 1)  # the next one's id is another second's
    (world.root / "a" / "one.txt").write_text("changed", encoding="utf-8")
    (world.root / "gone").unlink()
    backup = world.take()
    assert backup.id != earlier.id

    needed, unpack, rest, _place = steps(page)
    needed = "\n".join(line for line in needed.splitlines() if not line.startswith(("cd /srv/shop", "R=")))
    script = f'set -e\nR="{world.backups}/files" N={backup.id} K="{tmp_path}/key.txt"\n{needed}\n{unpack}\n{rest}'
    script = script.replace("/srv/restored", str(tmp_path / "restored"))
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)

    assert f"{earlier.id}/pack-1.tar.zst.age" in done.stdout, "an earlier backup holds some of it"
    assert portrait(tmp_path / "restored" / "uploads") == portrait(world.root)
    assert (tmp_path / "restored" / "uploads" / "sparse").stat().st_blocks < 1000


@needs_root
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("page", [DOCS / "files.md", DOCS / "ja" / "files.md"], ids=["en", "ja"])
def test_the_three_lines_of_the_page_open_a_pack_and_the_listing(page: Path, tmp_path: Path) -> None:
    """Typed as they are there, but for the number of the pack."""
    world = World(tmp_path)
    world.settings["encryption"] = {"recipients": [key(tmp_path)]}
    world.fill()
    (world.root / "a" / "invoice.txt").write_text("42\n", encoding="utf-8")
    (world.root / "a" / "invoice.txt").chmod(0o644)
    os.setxattr(world.root / "mode", "user.a", b"\xff1")
    backup = world.take()
    there = tmp_path / "there"
    shutil.copytree(world.backups / "files" / backup.id, there)
    shutil.copy(tmp_path / "key.txt", there / "shop-backup.key")
    block = re.findall(r"^```\n(age -d .*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    listed, unpacked, found = (
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("pack-7", "pack-1")],
            cwd=there, check=True, capture_output=True,
        ).stdout
        for line in block[0].splitlines()
    )  # fmt: skip
    shown = {name.removeprefix(b"uploads/") for name in listed.splitlines()}
    assert {b"a/invoice.txt", b"a/b/two.bin", b"mode"} <= shown
    assert unpacked == b""
    here = [path for path in (there / "uploads").rglob("*") if path.is_file()]
    contents = {
        path.stat().st_ino
        for path in world.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_size
    }
    assert len(here) == len(shown) == len(contents), "each content once, that of a file with two names too"
    for path in here:
        saved = world.root / path.relative_to(there / "uploads")
        assert path.read_bytes() == saved.read_bytes(), path
        assert (path.stat().st_mode, path.stat().st_mtime) == (saved.stat().st_mode, int(saved.stat().st_mtime)), path
    assert os.getxattr(there / "uploads" / "mode", "user.a") == b"\xff1"
    (line,) = found.splitlines()
    assert line.startswith(b'"uploads/a/invoice.txt"\tfile 644 ') and line.split(b"\t")[2] == b"1"
