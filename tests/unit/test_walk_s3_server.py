# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CONTRIBUTING's walk-through "add an S3 server" works, and touches no more files than it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST = 5
REFUSED = """
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, lifecycle
from botocore.exceptions import ClientError

class Refusing:
    def ask_xml(self, attempted, query):
        with client.translated_errors(attempted, "s3://uploads"):
            said = {"Error": {"Code": "FeatureNotOffered"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise ClientError(said, "ask")

assert lifecycle.read(Refusing()) is None
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What git would show of this tree."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    collection = tmp_path / ".ansible/collections/ansible_collections/lifeboat"
    collection.mkdir(parents=True)
    (collection / "dr").symlink_to(tmp_path)
    return tmp_path


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=copy, capture_output=True, text=True, check=False)


def collected(copy: Path) -> set[str]:
    done = run(
        copy, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "--collect-only", "-q", "tests/objects"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {line for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.long
@pytest.mark.slow
def test_an_invented_server_is_tested_like_the_others(copy: Path) -> None:
    environment = ["-B", "-c", f"import sys; sys.path.insert(0, '.ansible/collections')\n{REFUSED}"]
    assert "FeatureNotOffered" in run(copy, *environment).stderr, "unknown words are an error"
    before, tests = files(copy), collected(copy)
    done = run(copy, "-B", "tests/walkthroughs/add_s3_server.py", str(copy))
    assert done.returncode == 0, done.stderr
    after = files(copy)
    touched = {str(path) for path in after if after[path] != before.get(path) and "__pycache__" not in path.parts}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("### Add an S3 server\n")[2].partition("\n#")[0]
    assert touched == set(re.findall(r"^\d\. `([^`]+)`", section, re.MULTILINE))
    assert len(touched) <= MOST
    new = collected(copy) - tests
    on_all = {test for test in tests if "gateway" in test.partition("[")[2]}
    assert on_all
    assert new == {test.replace("gateway", "garage") for test in on_all}
    assert run(copy, *environment).stderr == ""
