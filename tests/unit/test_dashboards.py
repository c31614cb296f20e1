# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards: as generated, of metrics that there are and of all of them, and of a shape that Grafana takes.

Grafana itself is not here: its import was not tried. Its types are (tests/dashboards).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import debian
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import metrics as keeper_metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "monitoring" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
# Of https://github.com/grafana/grafana/tree/main/kinds and packages/grafana-schema: what a panel of ours may be.
KINDS = {"stat", "table", "timeseries"}
UNITS = {"short", "s", "bytes", "percentunit"}
OTHERS = {"lifeboat_expected_stack"}  # of monitoring/stacks.yml
LABELS = {
    "stack", "duty", "of", "kind", "scenario", "component", "alertname", "severity", "alertstate", "check", "collector",
    "job", "seen_by", "protection",
}  # fmt: skip


def queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_they_are_what_the_registry_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate_dashboards.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_metric_is_shown_and_none_that_is_not_there() -> None:
    every = {*metrics.METRICS, *keeper_metrics.METRICS}
    known = every - {"lifeboat_build_info"}
    named = {
        name for board in BOARDS.values() for expr in queries(board) for name in re.findall(r"\blifeboat_\w+", expr)
    }
    assert named - every - OTHERS == set()
    assert known - named == set(), "run make docs: a panel is made of each"


def test_every_label_is_one_that_there_is() -> None:
    for board in BOARDS.values():
        for expr in queries(board):
            used = set(re.findall(r"(\w+)=~?\"|(\w+)!=\"", expr))
            used |= {(name, "") for group in re.findall(r"(?:by|on) \(([^)]*)\)", expr) for name in group.split(", ")}
            assert {name for pair in used for name in pair if name} <= LABELS, expr


@pytest.mark.slow
def test_what_grafana_does_not_know_is_refused(tmp_path: Path) -> None:
    """By Grafana's own types, as `make lint` asks them: each of these once stood there, or is as wrong."""
    if not os.environ.get("CI") and not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("NOT CHECKED by Grafana's types: there is no node or no npm")
    board = json.loads((FOLDER / "stack.json").read_text(encoding="utf-8"))
    (tmp_path / "good.json").write_text(json.dumps(board))
    stat, table = (next(one for one in board["panels"] if one["type"] == kind) for kind in ("stat", "table"))
    table["options"]["footer"] = {"show": False}
    board["templating"]["list"][1]["definition"] = "label_values(stack)"
    stat["options"]["colorMode"] = "rainbow"
    (tmp_path / "wrong.json").write_text(json.dumps(board, indent=1))
    argv = [sys.executable, str(ROOT / "tests/dashboards/check.py"), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    errors = re.findall(r"^(\w+)\.ts\((\d+),", done.stdout, re.MULTILINE)
    assert {name for name, _line in errors} == {"wrong"}, done.stdout
    lines = ("", "", *json.dumps(board, indent=1).splitlines())  # one line of import stands before it
    named = " ".join(lines[int(number)] for _name, number in errors)
    assert all(f'"{field}"' in named for field in ("footer", "definition", "colorMode")), named


def test_there_are_three_with_fixed_addresses() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"lifeboat-{name}" for name in ("fleet", "recovery", "stack")
    }
    assert all(len(board["uid"]) <= 40 for board in BOARDS.values()), "as Grafana allows"


@pytest.mark.parametrize("name", BOARDS)
def test_the_frame_is_grafanas(name: str) -> None:
    board = BOARDS[name]
    assert board["schemaVersion"] >= 36
    assert "id" not in board, "the database of one Grafana"
    assert (board["editable"], board["tags"]) == (True, ["lifeboat"])
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    used = {name for expr in queries(board) for name in re.findall(r"\$\{?(\w+)", expr)}
    assert used <= set(variables), "each variable that a query uses is one of the dashboard"
    assert ("stack" in variables) is (name != "fleet")


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_whole_and_do_not_overlap(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )  # fmt: skip
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] in KINDS and panel["title"] and panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(ord("A") + number) for number in range(len(refs))]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert (target["format"] == "table" and target["instant"]) if panel["type"] == "table" else target["range"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)


def test_the_fleet_is_sorted_worst_first_and_leads_to_each_stack() -> None:
    (panel,) = [panel for panel in BOARDS["fleet"]["panels"] if panel["title"] == "One line a stack, worst first"]
    assert panel["options"]["sortBy"] == [{"displayName": "Wrong", "desc": True}]
    renamed = panel["transformations"][1]["options"]["renameByName"]
    assert renamed["Value #A"] == "Wrong"
    columns = {override["matcher"]["options"]: override["properties"] for override in panel["fieldConfig"]["overrides"]}
    assert set(columns) <= {*renamed.values()}, "an override is of a column that there is"
    (links,) = columns["Stack"]
    assert links["value"][0]["url"].startswith(f"/d/{BOARDS['stack']['uid']}?var-stack=")


@pytest.mark.slow
def test_promtool_accepts_every_query_and_they_answer(tmp_path: Path) -> None:
    """So does the table of all stacks: one that is not heard of, one that failed, one that is well."""
    program = debian.required("promtool")
    exprs = [expr.replace("$stack", "shop") for board in BOARDS.values() for expr in queries(board)]
    rules = [{"record": f"query_{number}", "expr": expr} for number, expr in enumerate(exprs)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    of = 'duty="backup",of="database"'
    given = {
        **{f'lifeboat_expected_stack{{stack="{name}"}}': "1x10" for name in ("good", "late", "gone")},
        **{f'lifeboat_metrics_timestamp_seconds{{stack="{name}"}}': "0+60x10" for name in ("good", "late")},
        **{f'{metrics._ALLOWED}{{stack="{name}",{of}}}': "300x10" for name in ("good", "late")},
        f'{metrics._DUTY}{{stack="good",{of}}}': "0+60x10", f'{metrics._DUTY}{{stack="late",{of}}}': "0x10",
        'lifeboat_check_passed{stack="late",check="vault"}': "0x10",
    }  # fmt: skip
    (panel,) = [panel for panel in BOARDS["fleet"]["panels"] if panel["title"] == "One line a stack, worst first"]
    wanted = [{"labels": f'{{stack="{name}"}}', "value": value} for name, value in
              (("gone", 1000), ("late", 2), ("good", 0))]  # fmt: skip
    asked = [{"expr": panel["targets"][0]["expr"], "eval_time": "10m", "exp_samples": wanted}]
    test = {
        "interval": "1m", "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "promql_expr_test": asked,
    }  # fmt: skip
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "test.yml"]):
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_field_that_the_schema_does_not_know(path: Path) -> None:
    """@grafana/schema 13: `footer` of a table's options and `definition` of a query variable are gone."""
    board = json.loads(path.read_text(encoding="utf-8"))
    assert [panel["title"] for panel in board["panels"] if "footer" in panel.get("options", {})] == []
    assert [one["name"] for one in board["templating"]["list"] if "definition" in one] == []
