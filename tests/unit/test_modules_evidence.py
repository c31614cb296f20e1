# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""evidence_info on the host and report on the controller, by their real main()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store
from builders import Run, make_config
from evidence_world import record, typed


def test_evidence_info_never_changes(run: Run, tmp_path: Path) -> None:
    store.write(make_config(tmp_path), typed(record(tmp_path)))
    for check in (True, False):
        said = run("evidence_info", check=check)
        assert (said["changed"], len(said["evidence"]["records"])) == (False, 1)
    assert said["evidence"]["scenarios"] == ["database", "backend", "site"]


def test_evidence_info_fails_clearly_where_the_records_cannot_be_listed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "evidence").write_text("a file in the way")
    result = run("evidence_info")
    assert (result["failed"], result["attempted"], "not a directory" in result["cause"].lower()) == (
        True,
        "read the evidence",
        True,
    )


def hosts(run: Run, tmp_path: Path) -> list[dict[str, Any]]:
    store.write(make_config(tmp_path), typed(record(tmp_path)))
    said = run("evidence_info")
    return [
        {"host": "app1", "evidence": said["evidence"]},
        {"host": "app2", "problem": "not reached"},
        {"host": "app3"},
    ]


def test_report_changes(run: Run, tmp_path: Path) -> None:
    folder, given = tmp_path / "report", {"directory": str(tmp_path / "report"), "hosts": hosts(run, tmp_path)}
    planned = run("report", plain=True, check=True, **given)
    assert (planned["changed"], folder.exists()) == (True, False)
    done = run("report", plain=True, **given)
    assert (done["changed"], done["files"]) == (True, planned["files"])
    assert Path(done["index"]).is_file()
    assert [host["host"] for host in done["silent"]] == ["app2", "app3"]
    assert (done["broken"], done["overdue"][0]["state"]) == ([], "NEVER DONE")
    for check in (True, False):
        assert run("report", plain=True, check=check, **given)["changed"] is False
    (folder / "index.html").write_text("x")
    assert run("report", plain=True, **given)["files"] == ["index.html"]


def test_report_fails_clearly_where_it_cannot_write(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = run("report", plain=True, directory=str(tmp_path / "file" / "x"), hosts=[])
    assert (wrong["failed"], wrong["attempted"]) == (True, "write the report")
