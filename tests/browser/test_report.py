# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: on a phone, a tablet and a desk, light and dark, with words that mean harm.

`make browser` installs Chromium where it may. Screenshots go to REPORT_SCREENSHOTS, if that is set.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.command import report
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist_line
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist_line import BY_HAND, Checklist, Item
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import site as reports_site
from builders import NOW
from chromium import WIDE, Chromium
from evidence_world import HOSTILE, drill, history, hostile, kept

# Every text against the background behind it, as WCAG 2.2 counts: https://www.w3.org/TR/WCAG22/#contrast-minimum
CONTRAST = """(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const bad = []; let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest("title,style")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(channels(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.tagName} ${walker.currentNode.data.slice(0, 40)}`);
  }
  return {seen, bad};
})()"""

# What an eye stumbles over: a badge or a number of several lines, a tile alone in its row, an axis that says one thing
# twice, words of a chart on top of each other. A badge with a stranger's words may have any length.
UNTIDY = """(() => {
  const lines = (e) => { const range = document.createRange(); range.selectNodeContents(e);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size; };
  const bad = [];
  for (const e of document.querySelectorAll(".badge"))
    if (e.textContent.length < 24 && lines(e) !== 1) bad.push(`badge of ${lines(e)} lines: ${e.textContent}`);
  for (const e of document.querySelectorAll("td"))
    if (!e.children.length && e.textContent && e.textContent.length < 12 && lines(e) !== 1)
      bad.push(`cell of ${lines(e)} lines: ${e.textContent}`);
  for (const list of document.querySelectorAll(".facts")) {
    const rows = {};
    for (const e of list.children) (rows[Math.round(e.getBoundingClientRect().top)] ??= []).push(e.textContent);
    for (const row of Object.values(rows)) if (row.length === 1) bad.push(`a tile alone: ${row[0]}`);
  }
  for (const chart of document.querySelectorAll(".chart")) {
    const texts = [...chart.querySelectorAll("text")].map((e) =>
      [e.textContent, e.getBoundingClientRect(), e.classList.contains("number")]);
    texts.forEach(([word, a, number], at) => texts.slice(at + 1).forEach(([other, b, another]) => {
      if (a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2)
        bad.push(`${word} on top of ${other}`);
      if (word === other && !number && !another && !chart.querySelector(".bar")) bad.push(`an axis says ${word} twice`);
    }));
  }
  return bad;
})()"""
# What a reader may open. A closed one is what he sees first: it must be shorter.
OPEN = "document.querySelectorAll('details').forEach((e) => { e.open = true; })"
HEIGHT = "document.documentElement.scrollHeight"
WIDTHS = [390, 768, 1280]
DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = [DOCS / "example" / name for name in ("drill-site-page.html", "fleet.html", "history.html")]


def today() -> list[Item]:
    """A line of each verdict, and one with a name and a figure that need all the room there is."""
    long = "x509-certificate-of-the-first-endpoint-of-the-second-vault"
    results = ("PASS", "FAIL", "COULD_NOT_VERIFY", BY_HAND)
    named = [Item("Backups", "newest backup", result, "db_backup_20261124_120000, 2.0 h old") for result in results]
    return [*named, Item("Vault", long, "PASS", f"{long} {'7' * 90}", f"at most {'9' * 40}")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    given = history(root)
    evil = {"host": "evil", "stack": HOSTILE, "scenarios": [HOSTILE], "drill_age_days": 92, "proof_age_days": 8}
    given.append({**evil, "records": [kept(hostile(root), signature=HOSTILE)]})
    for name, seconds in (("twice", 7200), ("soon", 20), ("once", 0.4)):
        drills = [drill(root, 1 - part * seconds / 86400) for part in (0, 1)]
        given.append({**evil, "host": name, "stack": name, "records": [kept(body) for body in drills]})
    _, files = reports_site.site(given, NOW, fleet=True)
    folder = tmp_path_factory.mktemp("site")
    report.write(folder, files)
    made = Checklist("shop", "daily", NOW, tuple(today()), timedelta(days=2))
    (folder / "checklist.html").write_text(checklist_line.page(made), encoding="utf-8")
    return folder


def pages(site: Path) -> list[Path]:
    """The history, a checklist, the docs' examples, and of each host the records that differ most."""
    evil = sorted(site.glob("evil/*/*.html"))
    lists = [site / "index.html", site / "fleet.html", site / "checklist.html", *EXAMPLES]
    return [*lists, *sorted(site.glob("app1/shop/*.html"))[::3], *evil]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report(site: Path, browser: Chromium, width: int, dark: bool) -> None:
    shots = os.environ.get("REPORT_SCREENSHOTS")
    backgrounds = set()
    for page in pages(site):
        del browser.said[:]
        browser.open(page, width=width, dark=dark)
        closed: Any = browser.value(HEIGHT)
        browser.value(OPEN)
        if browser.value("document.querySelectorAll('details').length"):
            assert closed < browser.value(HEIGHT), page.name
        assert browser.value("document.documentElement.scrollWidth") <= width, page.name
        assert browser.value(WIDE) == [], page.name
        assert browser.value(UNTIDY) == [], page.name
        contrast: Any = browser.value(CONTRAST)
        assert contrast["seen"] > 20, page.name
        assert contrast["bad"] == [], page.name
        assert browser.value("document.querySelectorAll('script,img,iframe,form,[onerror],[onload]').length") == 0
        assert browser.said == [], page.name
        backgrounds.add(browser.value("getComputedStyle(document.body).backgroundColor"))
        if shots:
            Path(shots).mkdir(parents=True, exist_ok=True)
            browser.screenshot(
                Path(shots) / f"{page.parent.parent.name}-{page.stem}-{width}-{'dark' if dark else 'light'}.png"
            )
    assert backgrounds == {"rgb(18, 20, 23)" if dark else "rgb(255, 255, 255)"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("picture", sorted(DOCS.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_of_a_terminal(browser: Chromium, picture: Path, dark: bool) -> None:
    """Every row is within the frame, and the frame has the reader's colours."""
    browser.open(picture, width=1280, dark=dark)
    ends: Any = browser.value("""(() => { const frame = document.querySelector(".back").getBBox();
      return [...document.querySelectorAll("text")].map((e) => { const box = e.getBBox();
        return frame.width - box.x - box.width; }); })()""")
    assert len(ends) > 5 and min(ends) > 0
    colour = browser.value("getComputedStyle(document.querySelector('.back')).fill")
    assert colour == ("rgb(18, 20, 23)" if dark else "rgb(255, 255, 255)")


def test_a_script_would_not_run_and_this_test_would_see_one(site: Path, browser: Chromium) -> None:
    """The page's policy is the second wall: proved on a page whose first wall is torn down."""
    text = (site / "index.html").read_text(encoding="utf-8")
    bad = site / "bad.html"
    bad.write_text(text.replace("<main>", "<main><script>document.title='run'</script><p style='width:3000px'>x</p>"))
    del browser.said[:]
    browser.open(bad, width=390, dark=False)
    assert browser.value("document.title") != "run"
    assert "Content Security Policy" in " ".join(browser.said)
    assert browser.value("document.documentElement.scrollWidth") > 390
    assert browser.value(WIDE)
    untidy = site / "untidy.html"
    untidy.write_text(
        text.replace(
            "<main>", "<main><p class='badge' style='white-space:pre'>PAS\nS</p><dl class='facts'><div>1</div></dl>"
        )
    )
    browser.open(untidy, width=1280, dark=False)
    assert browser.value(UNTIDY) == ["badge of 2 lines: PAS\nS", "a tile alone: 1"]
    pale = site / "pale.html"
    pale.write_text(text.replace("--soft:#525a65", "--soft:#b0b8c4"))
    browser.open(pale, width=390, dark=False)
    assert browser.value(CONTRAST)["bad"]
