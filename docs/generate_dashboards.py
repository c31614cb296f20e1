#!/usr/bin/env python3
"""Write monitoring/dashboards/*.json for Grafana 10 and later, from the registries of metrics.

The dashboard of a stack has a panel for each metric that no other panel shows, so that a new one is seen without
another change. `--check` fails where a file is not what it would be.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from plugins.module_utils.keeper.metrics import METRICS as OF_KEEPERS  # noqa: E402
from plugins.module_utils.operations.metrics import METRICS  # noqa: E402

TARGET = ROOT / "monitoring" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA = 38  # of Grafana 10.0; later ones read it and bring it up to date
ONE, OF = '{stack="$stack"}', 'stack="$stack"'
LAST, ALLOWED = "lifeboat_duty_last_success_timestamp_seconds", "lifeboat_duty_allowed_age_seconds"
ASKED = 'probe_%s{stack="$stack",job=~"lifeboat-endpoint_.+"}'
HEARD = "lifeboat_metrics_timestamp_seconds"
STACKS = f"(group by (stack) (lifeboat_expected_stack) or group by (stack) ({HEARD}))"
OVERDUE = f"count by (stack) (time() - {LAST} > on (stack, duty, of) group_left () {ALLOWED})"
FAILED = "count by (stack) (lifeboat_check_passed == 0)"
# A stack that is not heard of comes before all others, as in the table of lifeboat.dr.status.
ABSENT = f"1000 * group by (stack) (lifeboat_expected_stack unless on (stack) {HEARD})"
LINK = {"title": "The stack", "url": "/d/lifeboat-stack?var-stack=${__data.fields.Stack}&var-datasource=${datasource}"}
Panel = dict[str, Any]


def unit(name: str) -> str:
    """Of a metric, by the suffix that Prometheus' conventions give it."""
    if name.endswith("_timestamp_seconds"):
        return "dateTimeAsIso"
    ends = {"_seconds": "s", "_bytes": "bytes"}
    return next((found for suffix, found in ends.items() if name.endswith(suffix)), "short")


def query(expr: str, legend: str = "", *, table: bool = False) -> dict[str, Any]:
    shape = {"instant": True, "range": False, "format": "table"} if table else {"instant": False, "range": True}
    return {"datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto", "editorMode": "code", **shape}


def panel(
    kind: str, title: str, width: int, queries: Sequence[Mapping[str, Any]], *, unit: str = "short", words: str = "",
    **more: Any,
) -> Panel:  # fmt: skip
    """Without its place and its number, which placed() gives."""
    defaults = {"unit": unit, "custom": {}, "mappings": [], **more.pop("defaults", {})}
    found = {
        "type": kind,
        "title": title,
        "description": words,
        "datasource": SOURCE,
        "targets": [{**query, "refId": chr(ord("A") + number)} for number, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": more.pop("options", {}),
        "gridPos": {"w": width, "h": more.pop("height", 8)},
    }
    return {**found, **more}


def placed(panels: Iterable[Panel]) -> Iterator[Panel]:
    """From left to right, then the next row, on Grafana's 24 columns."""
    x, y, high = 0, 0, 0
    for number, panel in enumerate(panels, 1):
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > 24:
            x, y, high = 0, y + high, 0
        yield {**panel, "id": number, "gridPos": {"w": width, "h": height, "x": x, "y": y}}
        x, high = x + width, max(high, height)


def variable(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "hide": 0, "multi": False, "includeAll": False, "refresh": 1, **more}


def dashboard(name: str, title: str, panels: Iterable[Panel], *, stack: bool = True) -> dict[str, Any]:
    source = variable("datasource", label="Prometheus", type="datasource", query="prometheus")
    asked = f"label_values({HEARD}, stack)"
    of = variable(
        "stack", label="Stack", type="query", datasource=SOURCE, sort=1,
        query={"query": asked, "refId": "stack"},
    )  # fmt: skip
    links = {"title": "Lifeboat", "type": "dashboards", "tags": ["lifeboat"], "asDropdown": False, "includeVars": True,
             "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}  # fmt: skip
    return {
        "uid": f"lifeboat-{name}",
        "title": title,
        "description": "Made of Lifeboat's registry of metrics. Change a copy: this one is written again.",
        "tags": ["lifeboat"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-90d" if name == "recovery" else "now-7d", "to": "now"},
        "timepicker": {},
        "templating": {"list": [source, *([of] if stack else [])]},
        "annotations": {"list": []},
        "links": [links],
        "panels": list(placed(panels)),
    }


def limits(*steps: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from a value on; the first has none."""
    found = [{"value": at, "color": colour} for at, colour in steps]
    return {"thresholds": {"mode": "absolute", "steps": found}, "color": {"mode": "thresholds"}}


RED_FROM_ONE = limits((None, "green"), (1, "red"))
GREEN_FROM_ONE = limits((None, "red"), (1, "green"))


def stat(title: str, expr: str, width: int = 6, **more: Any) -> Panel:
    options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background",
               "graphMode": "none", "textMode": "auto", "justifyMode": "auto", "orientation": "auto"}  # fmt: skip
    return panel("stat", title, width, [query(expr)], height=4, options=options, **more)


def series(title: str, queries: Sequence[Mapping[str, Any]], width: int = 12, **more: Any) -> Panel:
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, width, queries, options=options, **more)


def grid(title: str, columns: Mapping[str, str], by: str, *, units: Mapping[str, str], **more: Any) -> Panel:
    """A table of instant queries, joined by their labels: column -> query. by: the column to sort by, largest above.

    Grafana calls the value of query A `Value #A`.
    """
    names = {f"Value #{chr(ord('A') + number)}": column for number, column in enumerate(columns)}
    names |= {"Value": next(iter(columns))} if len(columns) == 1 else {}
    renamed = {**names, "stack": "Stack", "duty": "Duty", "of": "Of", "check": "Check", "alertname": "Alert",
               "severity": "Severity", "kind": "Kind", "scenario": "Scenario"}  # fmt: skip
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", "host"), True)
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": kind}]}
        for column, kind in units.items()
    ]
    return panel(
        "table", title, more.pop("width", 24), [query(expr, table=True) for expr in columns.values()],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": renamed, "indexByName": {}}},
        ],
        options={"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": by, "desc": True}]},
        overrides=[*overrides, *more.pop("overrides", [])], **more,
    )  # fmt: skip


def fleet() -> dict[str, Any]:
    coloured = {"matcher": {"id": "byName", "options": "Wrong"}, "properties": [
        {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}},
        {"id": "thresholds", "value": RED_FROM_ONE["thresholds"]},
    ]}  # fmt: skip
    linked = {"matcher": {"id": "byName", "options": "Stack"}, "properties": [{"id": "links", "value": [LINK]}]}
    never = 'time() - ({last}{{duty="{duty}"}} > 0)'
    columns = {
        "Wrong": f"({OVERDUE} or {STACKS} * 0) + on (stack) ({FAILED} or {STACKS} * 0)"
        f" + on (stack) ({ABSENT} or {STACKS} * 0)",
        "Overdue": OVERDUE,
        "Failed checks": FAILED,
        "Newest backup": f"max by (stack) ({never.format(last=LAST, duty='backup')})",
        "Proved": f"max by (stack) ({never.format(last=LAST, duty='verify_restore')})",
        "Last heard of": f"time() - max by (stack) ({HEARD})",
    }
    firing = 'ALERTS{alertname=~"Lifeboat.+", alertname!="LifeboatWatchdog", alertstate="firing"}'
    return dashboard(
        "fleet", "Lifeboat: all stacks",
        [
            stat("Stacks", f"count({STACKS})", defaults=limits((None, "blue"))),
            stat(
                "Not heard of", f"count(lifeboat_expected_stack unless on (stack) {HEARD}) or vector(0)",
                defaults=RED_FROM_ONE, words="The list of stacks has them, and no host tells of them.",
            ),
            stat("With something overdue", f"count({OVERDUE}) or vector(0)", defaults=RED_FROM_ONE),
            stat("With a failed check", f"count({FAILED}) or vector(0)", defaults=RED_FROM_ONE),
            grid(
                "One line a stack, worst first", columns, "Wrong", height=14, overrides=[coloured, linked],
                units={"Newest backup": "s", "Proved": "s", "Last heard of": "s"},
                words="Wrong: duties that are overdue and checks that failed; 1000 more where nothing is known. An age"
                " that is missing was never or is not known.",
            ),
            grid("Alerts that fire", {"Fires": f"max by (stack, alertname, severity) ({firing})"}, "Alert", units={}),
        ],
        stack=False,
    )  # fmt: skip


def recovery() -> dict[str, Any]:
    dashed = {
        "matcher": {"id": "byRegexp", "options": "/target$/"},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }
    stepped = {"custom": {"lineInterpolation": "stepAfter", "showPoints": "auto", "spanNulls": True}}
    evidence = 'lifeboat_evidence_%s{stack="$stack"}'

    def trend(title: str, value: str, target: str, words: str) -> Panel:
        queries = [
            query(f"max by (kind, scenario) ({evidence % value})", "{{kind}} {{scenario}}"),
            query(f"max by (kind, scenario) ({evidence % target} > 0)", "{{kind}} {{scenario}} target"),
        ]
        return series(title, queries, 24, unit="s", words=words, overrides=[dashed], defaults=stepped, height=10)

    newest = {
        "Passed": f"min by (kind, scenario) ({evidence % 'passed'})",
        "Took": f"max by (kind, scenario) ({evidence % 'duration_seconds'})",
        "Target": f"max by (kind, scenario) ({evidence % 'target_seconds'} > 0)",
        "Lost": f"max by (kind, scenario) ({evidence % 'rpo_seconds'})",
        "May be lost": f"max by (kind, scenario) ({evidence % 'rpo_target_seconds'})",
        "Ago": f"time() - max by (kind, scenario) ({evidence % 'timestamp_seconds'})",
    }
    late = f'time() - {LAST}{{{OF}, duty="drill"}} > on (stack, duty, of) group_left () {ALLOWED}'
    return dashboard(
        "recovery", "Lifeboat: recoveries against their targets",
        [
            stat("Newest records that passed", f"sum({evidence % 'passed'})", 8, defaults=limits((None, "blue"))),
            stat(
                "Newest records that did not", f"sum({evidence % 'passed'} == bool 0) or vector(0)", 8,
                defaults=RED_FROM_ONE,
            ),
            stat("Drills overdue", f"count({late}) or vector(0)", 8, defaults=RED_FROM_ONE),
            trend(
                "Recovery time (RTO)", "duration_seconds", "target_seconds",
                "How long the newest recovery, drill or verification took, and how long it may take.",
            ),
            trend(
                "Lost time (RPO)", "rpo_seconds", "rpo_target_seconds",
                "How much time of writing was lost, and how much may be. Absent where it is not known.",
            ),
            grid(
                "Newest of each kind", newest, "Ago",
                units={"Took": "s", "Target": "s", "Lost": "s", "May be lost": "s", "Ago": "s"},
            ),
        ],
    )  # fmt: skip


def stack() -> dict[str, Any]:
    own = f"time() - ({LAST}{ONE} > 0)"
    duties = {
        "Share of the limit": f"({own}) / on (stack, duty, of) {ALLOWED}{ONE}",
        "Age": own,
        "May be": f"{ALLOWED}{ONE}",
    }
    size = [
        query(f"lifeboat_backup_size_bytes{ONE}", "{{component}}"),
        query(f"lifeboat_backup_median_size_bytes{ONE}", "{{component}}, median before"),
        query(f"lifeboat_backup_repo_size_bytes{ONE}", "{{component}}, stored"),
    ]
    room = [
        query(f"lifeboat_repository_free_bytes{ONE}", "free"),
        query(f"lifeboat_repository_largest_backup_bytes{ONE}", "largest backup"),
    ]
    shown = [
        stat("lifeboat status", f"lifeboat_status_passed{ONE}", defaults={**GREEN_FROM_ONE, "mappings": [
            {"type": "value", "options": {"0": {"text": "not PASS", "index": 0}, "1": {"text": "PASS", "index": 1}}},
        ]}),
        stat("Failed checks", f"count(lifeboat_check_passed{ONE} == 0) or vector(0)", defaults=RED_FROM_ONE),
        stat("Facts that cannot be read", f"count(lifeboat_collector_success{ONE} == 0) or vector(0)",
             defaults=RED_FROM_ONE),
        stat("Last heard of", f"time() - {HEARD}{ONE}", unit="s",
             defaults=limits((None, "green"), (300, "orange"), (600, "red"))),
        grid("Duties, the most urgent first", duties, "Share of the limit", width=12, height=10,
             units={"Share of the limit": "percentunit", "Age": "s", "May be": "s"},
             words="What was never done has no age, and an alert."),
        grid("Checks that failed", {"Passed": f"lifeboat_check_passed{ONE} == 0"}, "Check", width=12, height=10,
             units={}),
        series("Size of the newest backup", size, unit="bytes"),
        series("Room in the repository", room, unit="bytes"),
        series("Addresses that answer their users", [query(f"{ASKED % 'success'}", "{{endpoint}}")],
               words="1 where an address that is asked from outside answered well."),
        series("How long they took", [query(f"{ASKED % 'duration_seconds'}", "{{endpoint}}")], unit="s"),
    ]  # fmt: skip
    seen = {name for panel in (*shown, *recovery()["panels"]) for name in named(panel)}
    rest = [one_of(name, text) for name, text in {**METRICS, **OF_KEEPERS}.items() if name not in seen]
    return dashboard("stack", "Lifeboat: one stack", [*shown, *rest])


def one_of(name: str, text: str) -> Panel:
    """The panel of a metric that no other shows. Times are told as ages, or as what is left of them."""
    title = name.removeprefix("lifeboat_").removesuffix("_seconds").removesuffix("_bytes").replace("_", " ")
    if unit(name) != "dateTimeAsIso":
        return series(title.capitalize(), [query(f"{name}{ONE}")], 8, unit=unit(name), words=text)
    ahead = any(word in name for word in ("expiry", "full"))
    told = title.removesuffix(" timestamp").capitalize()
    expr = f"{name}{ONE} - time()" if ahead else f"time() - ({name}{ONE} > 0)"
    return series(f"{told}, {'from now' if ahead else 'ago'}", [query(expr)], 8, unit="s", words=text)


def named(panel: Mapping[str, Any]) -> set[str]:
    """The metrics that a panel's queries name."""
    exprs = itertools.chain.from_iterable(re.findall(r"\blifeboat_\w+", query["expr"]) for query in panel["targets"])
    return set(exprs)


def everything() -> dict[Path, str]:
    found = {"fleet": fleet(), "stack": stack(), "recovery": recovery()}
    return {TARGET / f"{name}.json": json.dumps(one, indent=2) + "\n" for name, one in found.items()}


def main() -> int:
    files = everything()
    if "--check" in sys.argv[1:]:
        old = [
            path.name for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        if old or {path.name for path in TARGET.glob("*.json")} != {path.name for path in files}:
            print(f"monitoring/dashboards: {', '.join(old) or 'a file too many'}: run make docs", file=sys.stderr)
            return 1
        return 0
    TARGET.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
