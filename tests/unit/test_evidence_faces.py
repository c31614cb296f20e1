# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The faces of a record: what they say, that nothing in a record becomes more than text, and that they can be read."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema, store
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import charts
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import history as reports_history
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import page as reports_page
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import site as reports_site
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import words as reports_words
from ansible_collections.lifeboat.dr.plugins.module_utils.reports.history import NEVER, OK, OVERDUE, judge
from ansible_collections.lifeboat.dr.plugins.module_utils.reports.markdown import text
from builders import NOW, make_config, settings
from evidence_schema_check import problems, published
from evidence_world import HOSTILE, drill, history, hostile, kept, proof, record, resealed, typed
from markdown_it import MarkdownIt


class Seen(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, name: str, given: list[tuple[str, str | None]]) -> None:
        self.elements.add(name)
        self.attributes |= {key for key, _ in given}
        self.links += [str(value) for key, value in given if key in ("href", "src")]
        if name not in ("meta", "link", "br"):
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name, "every element is closed, in order"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


ELEMENTS = {"html", "head", "meta", "link", "title", "style", "body", "main", "footer", "section", "h1", "h2", "h3", "p", "span", "strong", "code", "pre", "a", "dl", "dt", "dd", "div", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "svg", "text", "rect", "line", "circle", "path", "details", "summary"}  # fmt: skip


def faces(body: dict[str, Any]) -> dict[str, str]:
    known = {"problem": "", "signature": HOSTILE, "sha256": "0" * 64}
    made = {name: reports_site.face(name, typed(body), **known) for name in ("html", "markdown", "junit", "metrics")}
    return {**made, "json": reports_site.as_json(body)}


def test_the_hostile_record_is_one_that_the_schema_lets_in(tmp_path: Path) -> None:
    assert schema.read(hostile(tmp_path))[1] == ""
    assert problems(record(tmp_path)) == problems(drill(tmp_path, 1)) == problems(proof(tmp_path, 1)) == []


def test_html_shows_hostile_words_and_nothing_else(tmp_path: Path) -> None:
    page = faces(hostile(tmp_path))["html"]
    seen = Seen(page)
    assert seen.open == []
    assert seen.elements <= ELEMENTS
    assert not [attribute for attribute in seen.attributes if attribute.startswith("on")]
    assert seen.links == ["data:,"], "nothing is fetched"
    shown = "".join(seen.words)
    assert "<script>alert(1)</script>" in shown, "it is shown, as text"
    for letter in "\x1b\u202e\u200b":
        assert letter not in page
    assert "\\u202eevil\\u200b" in shown
    assert "日本語" in shown
    assert reports_page.POLICY.startswith("default-src 'none'")
    assert reports_words.escaped(reports_page.POLICY) in page


def test_the_history_shows_hostile_words_and_nothing_else(tmp_path: Path) -> None:
    evil = {
        "host": HOSTILE, "stack": HOSTILE, "scenarios": [HOSTILE], "components": [HOSTILE], "drill_age_days": 92,
        "proof_age_days": 8,
    }  # fmt: skip
    given = [{**evil, "records": [kept(hostile(tmp_path), signature=HOSTILE)]}, {"host": HOSTILE, "problem": HOSTILE}]
    _, files = reports_site.site([*given, *history(tmp_path)], NOW)
    seen = Seen(files["index.html"].decode())
    assert (seen.open, seen.elements <= ELEMENTS) == ([], True)
    for path in files:
        assert re.fullmatch(r"[\w-]+(/[\w-]+)*\.(html|md|xml|json|prom)", path), path
    for link in seen.links[1:]:
        assert link in files


def test_markdown_is_a_report_and_hostile_words_stay_words(tmp_path: Path) -> None:
    for body in (hostile(tmp_path), record(tmp_path)):
        found = MarkdownIt("commonmark", {"html": True}).enable("table").parse(faces(body)["markdown"])
        kinds = {token.type for token in found} | {child.type for token in found for child in token.children or ()}
        assert {"heading_open", "table_open", "td_open"} <= kinds
        assert not [kind for kind in kinds if "html" in kind or "link" in kind or "image" in kind or "fence" in kind]
        rows = [token for token in found if token.type == "tr_open"]
        assert len(rows) > 12
    tables = re.findall(r"^\|.*$", faces(hostile(tmp_path))["markdown"], re.MULTILINE)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {3, 4, 5}, "no cell breaks its row"


ESCAPES = [
    ("db_backup_20261124", "db_backup_20261124"), ("_x_", r"\_x\_"), ("a|b", r"a\|b"), ("a\nb", "a b"), ("@all", r"\@all"),
    ("http://x", r"http\://x"), ("www.x", r"www\.x"), ("<b>", r"\<b\>"), ("a*b", r"a\*b"), ("\\", "\\\\"), ("#1", r"\#1"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), ESCAPES)
def test_markdown_escapes(given: str, wanted: str) -> None:
    assert text(given) == wanted


# --- JUnit: as Jenkins' own schema has it, junit-10.xsd ---


def suite(page: str) -> ET.Element:
    whole = ET.fromstring(page)  # noqa: S314 - our own
    assert whole.tag == "testsuites"
    (found,) = whole
    assert found.tag == "testsuite"
    assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id"} == set(
        found.attrib
    )
    assert re.fullmatch(r"\d+\.\d{3}", found.attrib["time"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", found.attrib["timestamp"])
    cases = found.findall("testcase")
    assert [each.tag for each in found] == ["properties", *["testcase"] * len(cases)]
    assert int(found.attrib["tests"]) == len(cases)
    for word, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(found.attrib[word]) == sum(each.find(kind) is not None for each in cases), word
    for each in cases:
        assert {"name", "classname", "time"} == set(each.attrib)
        assert len(each) <= 1
    return found


def outcomes(page: str) -> dict[str, str]:
    return {
        testcase.attrib["name"]: testcase[0].tag if len(testcase) else "passed"
        for testcase in suite(page).findall("testcase")
    }


CASES: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
    ("all well", {}, {"verdict": "passed", "tables": "passed"}, ""),
    (
        "a check failed",
        {"results": [{"name": "tables", "result": "FAIL", "detail": "x"}]},
        {"verdict": "error", "tables": "failure"},
        "",
    ),
    (
        "not verified",
        {"results": [{"name": "tables", "result": "COULD_NOT_VERIFY"}]},
        {"verdict": "error", "tables": "error"},
        "",
    ),
    ("an odd word", {"results": [{"name": "tables", "result": "OK"}]}, {"verdict": "error", "tables": "error"}, ""),
    ("it broke", {"error": "boom"}, {"verdict": "error", "tables": "passed"}, ""),
    ("edited", {}, {"verdict": "error", "tables": "passed"}, "it was edited"),
]


@pytest.mark.parametrize(
    ("changes", "wanted", "problem"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_junit_is_green_only_for_a_pass(
    tmp_path: Path, changes: dict[str, Any], wanted: dict[str, str], problem: str
) -> None:
    found = outcomes(
        reports_site.face("junit", typed(record(tmp_path, **changes)), problem=problem, signature="", sha256="")
    )
    assert wanted.items() <= found.items()
    assert found["not tested: the bucket's objects"] == "skipped"


def test_junit_of_hostile_words_is_well_formed(tmp_path: Path) -> None:
    page = faces(hostile(tmp_path))["junit"]
    assert "alert(1)" in ET.tostring(suite(page), encoding="unicode")


def test_metrics(tmp_path: Path) -> None:
    lines = faces(record(tmp_path))["metrics"].splitlines()
    assert len([line for line in lines if line.startswith("# TYPE")]) == 6
    values = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r'lifeboat_evidence_\w+\{(\w+="[^"\n]*",?)+\} \d+(\.\d+)?', value) for value in values)
    for line in faces(hostile(tmp_path))["metrics"].splitlines():
        assert re.fullmatch(r'# .*|\w+\{(\w+="([^"\\\n]|\\["\\])*",?)+\} [\d.]+', line)
    assert reports_site.face("metrics", typed(record(tmp_path)), problem="edited").count("{") == 0, (
        "an edited one is not fresh"
    )


# --- what a page says ---


def test_a_page_says_what_it_must(tmp_path: Path) -> None:
    body = drill(tmp_path, 1)
    body = resealed({**body, "findings": [{"what": "alarm earlier", "owner": "mika", "due": "2026-12-01"}]})
    shown = " ".join("".join(Seen(faces(body)["html"]).words).split())
    for words in (
        "Drill of the database: shop", "PASS", "of 4 h 00 min allowed", "Estimate at 40.0 GB", "8.1 MB/s", "the data directory is wiped",
        "120 acknowledged, 118 present, 2 lost", "Not tested", "this scenario does not restore them", "17.2", "2.19.4",
        "1 newer one was passed over", "alarm earlier", "mika", "Nobody has signed it off", "postgres:17@sha256:a1",
    ):  # fmt: skip
        assert words in shown, words


def test_a_record_that_is_no_evidence_says_so_first(tmp_path: Path) -> None:
    page = reports_site.face("html", typed(record(tmp_path)), problem="it was edited", signature="", sha256="")
    shown = "".join(Seen(page).words)
    assert shown.index("This is not evidence: it was edited.") < shown.index("Recovery time")
    assert "This is not evidence" in reports_site.face("markdown", typed(record(tmp_path)), problem="it was edited")


def test_a_record_of_version_1_0_has_every_face(tmp_path: Path) -> None:
    old = {key: value for key, value in record(tmp_path).items() if key in published()["required"]}
    old["version"] = [1, 0]
    assert schema.read(old)[1] == ""
    for name, page in faces(old).items():
        assert page, name
    assert "it is of an older version" in faces(old)["html"]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [reports_page.LIGHT, reports_page.DARK], ids=["light", "dark"])
def test_contrast_is_aa(palette: dict[str, str]) -> None:
    pairs = [(front, back) for front in ("text", "soft", "link") for back in ("back", "card")]
    pairs += [("badge", back) for back in ("pass", "fail", "unsure", "aborted")]
    for front, back in pairs:
        high, low = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{front} on {back}"


EXAMPLE = Path(__file__).resolve().parents[2] / "docs/example"


def test_the_example_in_the_docs_is_a_record() -> None:
    """That its pages are of today: test_samples.py."""
    example = json.loads((EXAMPLE / "drill-site.json").read_text(encoding="utf-8"))
    assert (problems(example), schema.read(example)[1]) == ([], "")


def test_what_passed_is_folded_and_what_did_not_is_not(tmp_path: Path) -> None:
    checks = [
        {"name": f"check {number}", "result": result, "detail": "x"}
        for number, result in enumerate(("PASS", "FAIL", "PASS", "COULD_NOT_VERIFY", "PASS"))
    ]
    page = faces(record(tmp_path, results=checks))["html"]
    shown, _, rest = page.partition("<h2>Checks</h2>")[2].partition("<details>")
    inside, _, after = rest.partition("</details>")
    assert inside.startswith("<summary>4 of 7 passed</summary>"), "the recovery time is a check, too"
    assert re.findall(r"check \d", shown) == ["check 1", "check 3"]
    assert re.findall(r"check \d", inside) == ["check 0", "check 2", "check 4"]
    assert "check " not in after.partition("</section>")[0]


def test_what_was_tried_is_shown(tmp_path: Path) -> None:
    body = record(tmp_path)
    body["phases"][2].update(tried=[{"step": "redeploy", "healed": True, "problem": ""}, "x"], notes=["load 16.75"])
    said = ["restore: step redeploy, healed True", "restore: x", "restore: load 16.75"]
    assert reports_words.tried(typed(body)) == said
    body["phases"][2].update(tried="x")
    assert schema.read(body) == (None, "phases[2].tried: wants a list, has 'x'")


# --- charts ---


def test_a_timeline_is_to_scale(tmp_path: Path) -> None:
    chart = charts.timeline(typed(record(tmp_path)))
    bars = [
        (float(left), float(wide))
        for left, wide in re.findall(r'x="([\d.]+)%" y="\d+" width="([\d.]+)%" height="9" rx="2" class="bar"', chart)
    ]
    assert bars == [(0.0, 2.0), (2.0, 18.0), (20.0, 72.0), (92.0, 8.0)]
    assert 'aria-label="Timeline of 4 phases, 1 min 00 s' in chart
    assert charts.timeline(typed({**record(tmp_path), "phases": []})) == ""


@pytest.mark.parametrize("seconds", [[], [0], [0, 0], [5], [1, 1e17], [60, 30, 14500]])
@pytest.mark.parametrize("target", [0, 14400])
def test_a_trend_stays_within_its_frame(seconds: list[float], target: float) -> None:
    points = [
        charts.Point(NOW + timedelta(days=n), second, "PASS" if n else "FAIL", "x") for n, second in enumerate(seconds)
    ]
    chart = charts.trend(points, target)
    assert chart.count('class="dot') == len(seconds)
    for name, value in re.findall(r'\b(x|y|x1|x2|y1|y2)="(-?[\d.]+)', chart):
        assert 0 <= float(value) <= (100 if name[0] == "x" else 190)
    assert ("target" in chart) == bool(target and seconds)


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (timedelta(days=1), ["2026-11-25", "2026-11-24"]),
        (timedelta(hours=2), ["2026-11-24 14:00", "2026-11-24 12:00"]),
        (timedelta(seconds=20), ["2026-11-24 12:00:20", "2026-11-24 12:00:00"]),
        (timedelta(milliseconds=400), ["2026-11-24"]),
        (timedelta(), ["2026-11-24"]),
    ],
    ids=["another day", "another hour", "another second", "the same second", "the same"],
)
def test_an_axis_says_as_much_of_its_times_as_tells_them_apart(later: timedelta, words: list[str]) -> None:
    chart = charts.trend([charts.Point(NOW + gap, 60, "PASS", "x") for gap in (later, timedelta())], 0)
    assert re.findall(r">(2026[^<]*)</text>", chart) == words


def drawn_at(seconds: list[float], target: float = 0) -> list[tuple[float, float, str]]:
    """The numbers of a trend, a day between two points: percent from the left, pixels from above, words."""
    points = [charts.Point(NOW + timedelta(days=n), second, "PASS", "x") for n, second in enumerate(seconds)]
    found = re.findall(
        r'<text x="([\d.]+)%" y="([\d.]+)" text-anchor="\w+" class="number">([^<]*)<', charts.trend(points, target)
    )
    return [(float(across), float(down), words) for across, down, words in found]


def test_each_point_of_a_trend_has_its_number() -> None:
    assert [words for _, _, words in sorted(drawn_at([75, 31, 4.5, 7300]))] == ["1.2 min", "31 s", "4.5 s", "2 h"]
    assert [words for _, _, words in drawn_at([64])] == ["1.1 min"]


def test_numbers_of_a_crowd_do_not_touch_and_the_last_the_longest_and_the_shortest_are_there() -> None:
    seconds = [60.0 + (number * 37) % 41 for number in range(60)] + [300.0, 5.0, 61.0]
    numbers = drawn_at(seconds, 14400)
    words = [text for _, _, text in numbers]
    assert {"5 min", "5 s", "1 min"} <= set(words) and len(words) < len(seconds)
    boxes = [charts._box(text, across, down, "middle") for across, down, text in numbers if 30 < across < 80]
    assert len(boxes) > 2
    assert not [1 for at, one in enumerate(boxes) for other in boxes[at + 1 :] if charts._touch(one, other)]


def test_who_did_it_and_the_signature_stand_before_the_timeline(tmp_path: Path) -> None:
    known = {"problem": "", "signature": "signed by auditor", "sha256": "0" * 64}
    for name, after in (("html", "<h2>Timeline</h2>"), ("markdown", "## Timeline")):
        top = reports_site.face(name, typed(record(tmp_path)), **known).partition(after)[0]
        for words in ("Operator", "mika", "Signature", "signed by auditor"):
            assert words in top, (name, words)


# --- the history ---


def stack(*records: dict[str, Any], **changes: Any) -> reports_history.Stack:
    known = {"host": "app1", "stack": "shop", "scenarios": ["database"], "drill_age_days": 92, "proof_age_days": 8}
    return judge({**known, "records": [kept(body) for body in records], **changes}, NOW)


DUTIES: list[tuple[str, Any, str, str]] = [
    ("never", lambda root: [], NEVER, ""),
    ("yesterday", lambda root: [drill(root, 1)], OK, ""),
    ("a quarter ago", lambda root: [drill(root, 91.9)], OK, ""),
    ("more than a quarter ago", lambda root: [drill(root, 92.1)], OVERDUE, ""),
    ("it failed since", lambda root: [drill(root, 50), drill(root, 1, proof="")], OK, "COULD_NOT_VERIFY"),
    ("it only ever failed", lambda root: [drill(root, 1, proof="")], NEVER, "COULD_NOT_VERIFY"),
    ("another scenario's", lambda root: [drill(root, 1, scenario="backend")], NEVER, ""),
    ("a recovery is no drill", lambda root: [record(root, 1)], NEVER, ""),
    ("an edited one", lambda root: [{**drill(root, 1), "reason": "x"}], NEVER, ""),
    ("of tomorrow", lambda root: [drill(root, -1)], NEVER, ""),
]


@pytest.mark.parametrize(("made", "state", "failed"), [case[1:] for case in DUTIES], ids=[case[0] for case in DUTIES])
def test_what_is_overdue(tmp_path: Path, made: Any, state: str, failed: str) -> None:
    duty = stack(*made(tmp_path)).duties[0]
    assert (duty.state, duty.failed) == (state, failed)


def test_a_proof_is_a_restore(tmp_path: Path) -> None:
    assert stack(proof(tmp_path, 7)).duties[-1].state == OK
    assert stack(proof(tmp_path, 9)).duties[-1].state == OVERDUE
    assert stack(proof(tmp_path, 1, level="checksum")).duties[-1].state == NEVER
    assert stack(proof(tmp_path, 1, "FAIL")).duties[-1].state == NEVER


@pytest.mark.parametrize("taken_at", ["2025-11-24T02:00:00Z", "no time"])
def test_a_restore_of_last_years_backup_is_no_proof_of_the_backups(tmp_path: Path, taken_at: str) -> None:
    young = format_time(NOW - timedelta(days=8))
    assert stack(proof(tmp_path, 1, taken_at=young)).duties[-1].state == OK
    assert stack(proof(tmp_path, 1, taken_at=taken_at)).duties[-1].state == NEVER


THREE = ["database", "objects", "config"]


def test_each_component_is_proved_by_itself(tmp_path: Path) -> None:
    def states(*records: dict[str, Any]) -> dict[str, str]:
        return {duty.name: duty.state for duty in stack(*records, scenarios=[], components=THREE).duties}

    database, objects, config = (f"proof of the {name} by a restore" for name in THREE)
    assert states(proof(tmp_path, 1)) == {database: OK, objects: NEVER, config: NEVER}
    both = [proof(tmp_path, 2, of="objects"), proof(tmp_path, 1, "FAIL", of="config"), proof(tmp_path, 9)]
    assert states(*both) == {database: OVERDUE, objects: OK, config: NEVER}
    assert stack(proof(tmp_path, 1, of="nothing"), components=THREE).proofs == dict.fromkeys(THREE)


def test_metrics_name_a_component_that_was_never_proved(tmp_path: Path) -> None:
    known = {"host": "the inventory's", "stack": "shop", "scenarios": [], "drill_age_days": 92, "proof_age_days": 8}
    body = proof(tmp_path, 1)
    given = {**known, "components": THREE, "records": [kept(body)]}
    lines = reports_site.site([given], NOW)[1]["lifeboat.prom"].decode().splitlines()
    name, host = "lifeboat_evidence_proof_timestamp_seconds", "the inventory's"
    at = (NOW - timedelta(days=1)).timestamp()
    assert [line for line in lines if line.startswith(name)] == [
        f'{name}{{stack="shop",host="{host}",component="{component}"}} {value:.15g}'
        for component, value in (("config", 0), ("database", at), ("objects", 0))
    ]
    none = reports_site.site([{**given, "records": []}], NOW)[1]["lifeboat.prom"].decode()
    assert f'{name}{{stack="shop",host="the inventory\'s",component="database"}} 0\n' in none


def test_a_host_says_nothing_of_another_stack_or_host(tmp_path: Path) -> None:
    """One that was taken over: its records are sealed as they must be, and name the stack and the host next to it."""
    known = {"scenarios": [], "components": [], "drill_age_days": 92, "proof_age_days": 8}
    honest = record(tmp_path, verdict="FAIL", recorded_at="2026-11-20T00:00:00.000Z")
    forged = record(tmp_path)
    given = [
        {**known, "host": "shop1", "stack": honest["stack"], "records": [kept(honest)]},
        {**known, "host": "blog1", "stack": "blog", "records": [kept(forged)]},
    ]
    lines = reports_site.site(given, NOW)[1]["lifeboat.prom"].decode().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert samples and all('host="shop1"' in line for line in samples), samples
    assert not [line for line in samples if "blog" in line]


def test_the_history_counts_what_is_there(tmp_path: Path) -> None:
    given = history(tmp_path)
    shown = " ".join("".join(Seen(reports_site.site(given, NOW)[1]["index.html"].decode()).words).split())
    for words in ("Records11", "Passed7", "Overdue2", "No evidence2", "Not reached1", "it was not reached", "it is not JSON", "under another's name",
                  "NEVER DONE", "target 4 h", "drill of the object storage"):  # fmt: skip
        assert words in shown.replace(" Records", "Records"), words
    assert len(stack(*[entry["record"] for entry in given[0]["records"] if entry["record"]]).trends["database"][0]) == 5


ANSWERS: dict[str, dict[str, Any]] = {
    "nothing": {}, "no list": {"records": 1}, "no numbers": {"records": [], "scenarios": [], "drill_age_days": "x", "proof_age_days": 1},
    "no records": {"records": [1], "scenarios": [], "drill_age_days": 1, "proof_age_days": 1},
}  # fmt: skip


@pytest.mark.parametrize("given", ANSWERS.values(), ids=list(ANSWERS))
def test_a_host_that_answers_rubbish_is_not_reached(given: dict[str, Any]) -> None:
    assert judge({"host": "x", **given}, NOW).problem


def test_a_record_that_is_none_does_not_silence_the_others(tmp_path: Path) -> None:
    good, bad = kept(record(tmp_path)), kept(record(tmp_path), record=[1])
    known = {"host": "app1", "stack": "shop", "scenarios": [], "drill_age_days": 92, "proof_age_days": 8}
    assert [held.problem for held in judge({**known, "records": [good, bad]}, NOW).records] == [
        "it is not a JSON object", ""
    ]  # fmt: skip


def test_a_lying_host_is_looked_at_again(tmp_path: Path) -> None:
    """It says problem: none of a record that was edited, and names a path for an id."""
    edited = {**record(tmp_path), "verdict": "FAIL"}
    (one,) = stack(edited).records
    assert "edited" in one.problem
    odd = kept(record(tmp_path), id="../../../etc/cron.d/x")
    known = {"host": "../..", "stack": "/etc", "scenarios": [], "drill_age_days": 92, "proof_age_days": 8}
    _, files = reports_site.site([{**known, "records": [odd]}, {**known, "records": [kept(record(tmp_path))]}], NOW)
    assert not [path for path in files if ".." in path or path.startswith("/")]


# --- the command, the modules ---


def run_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    folder = tmp_path / "etc"
    folder.mkdir(exist_ok=True)
    (folder / "shop.json").write_text(json.dumps(settings(tmp_path)))
    code = cli.main([*words, "--config-directory", str(folder)])
    return code, capsys.readouterr().out


def test_the_command_lists_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tmp_path, capsys, "report")[1].startswith("NEVER DONE")
    path, kept = store.write(make_config(tmp_path), typed(record(tmp_path)))
    code, said = run_command(tmp_path, capsys, "report")
    assert (code, said.splitlines()[0].split()[:3]) == (0, ["PASS", kept.id, "recovery"])
    for form in ("text", "html", "markdown", "junit", "metrics", "json"):
        code, said = run_command(tmp_path, capsys, "report", kept.id, "--format", form)
        assert (code, bool(said)) == (0, True), form
    assert json.loads(run_command(tmp_path, capsys, "report", kept.id, "--format", "json")[1]) == schema.plain(kept)
    assert run_command(tmp_path, capsys, "report", "database_20200101_000000")[0] == 5
    path.write_text(path.read_text().replace("mika", "rika"))
    assert run_command(tmp_path, capsys, "report")[0] == run_command(tmp_path, capsys, "report", kept.id)[0] == 6


def test_the_command_writes_the_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(make_config(tmp_path), typed(record(tmp_path)))
    code, _ = run_command(tmp_path, capsys, "report", "--output", str(tmp_path / "out"))
    assert code == 0
    pages = sorted(file.suffix for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert pages == [".html", ".html", ".json", ".md", ".prom", ".xml"]
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "out").rglob("*")} == {0}


def test_people_add_findings_and_sign_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, kept = store.write(make_config(tmp_path), typed(record(tmp_path)))
    words = ("review", kept.id, "--finding", "alarm earlier")
    assert run_command(tmp_path, capsys, *words)[0] == 2, "whose, and by when?"
    assert run_command(tmp_path, capsys, *words, "--owner", "mika", "--due", "2026-02-30")[0] == 2
    assert run_command(tmp_path, capsys, *words, "--owner", "mika", "--due", "2026-12-01")[0] == 0
    assert run_command(tmp_path, capsys, "review", kept.id)[0] == 2
    assert run_command(tmp_path, capsys, "review", kept.id, "--sign-off", "rin", "--note", "read")[0] == 0
    after = store.load(make_config(tmp_path), kept.id)
    assert (after.problem, problems(after.body)) == ("", [])
    assert after.body["findings"] == [{"what": "alarm earlier", "owner": "mika", "due": "2026-12-01"}]
    assert after.body["sign_off"]["by"] == "rin"
    assert run_command(tmp_path, capsys, *words, "--owner", "x", "--due", "2026-12-01")[0] == 2, "that is final"
    path = tmp_path / "state/evidence" / f"{kept.id}.json"
    path.write_text(path.read_text().replace("rows and content equal", "rows equal"))
    assert run_command(tmp_path, capsys, "review", kept.id, "--sign-off", "x")[0] == 6
