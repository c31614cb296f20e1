# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benches are run by hand and rarely: at the least they must load, with the code as it is today."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bench.py", "objects.py", "buckets.py", "hosts.py"])
def test_a_bench_says_what_it_takes(name: str) -> None:
    done = subprocess.run([sys.executable, str(BENCH / name), "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout


RECAP = "shop1 : ok=13 changed=2 unreachable=0 failed=0 skipped=8\nshop2 : ok=13 changed=1 unreachable=0 failed={0} x"


def test_a_deployment_that_failed_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    hosts = importlib.import_module("hosts")
    assert hosts.recap(RECAP.format(0), ["shop1", "shop2"]) == 3
    for said, stacks in ((RECAP.format(1), ["shop1", "shop2"]), (RECAP.format(0), ["shop1", "shop2", "shop3"])):
        with pytest.raises(SystemExit, match="the deployment failed"):
            hosts.recap(said, stacks)


def test_what_a_further_host_costs_is_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    hosts = importlib.import_module("hosts")
    one, every, again = hosts.Deployed(1, 10, 6, 3), hosts.Deployed(5, 20, 26, 15), hosts.Deployed(5, 15, 20, 0)
    found = hosts.row("further host", one, every, again, 3.0)
    assert (found.each, found.cpu, found.again_changed) == (2.5, 5.0, 0)
    assert "2.5 s" in found.text
    assert "met" in found.text
    assert "missed" in hosts.row("further host", one, every, again, 2.4).text


@pytest.mark.slow
def test_buckets_are_worked_on_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that is far away must not be asked about one bucket after the other. One alone is asked three things at
    once: its objects, its settings, and what the vault has."""
    monkeypatch.syspath_prepend(str(BENCH))
    buckets, many_buckets = importlib.import_module("buckets"), importlib.import_module("many_buckets")
    with many_buckets.running(0.02) as source, many_buckets.running(0.02) as vault:
        stack = buckets.Stack(tmp_path, "shop", 12, 6, source, vault)
        stack.prepare()
        source.counts()
        stack.run("mirror", 0)
        assert source.counts()["at once"] > 3
        stack.lose()
        stack.run("recover-objects", 0)
        assert source.counts()["at once"] > 3
        stack.require_whole()


def test_what_runs_in_no_container_has_no_containers_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name the path was that of all containers together, and a busy lab's work was taken for the tool's."""
    monkeypatch.syspath_prepend(str(BENCH))
    measure = importlib.import_module("measure")

    class Told:
        def __init__(self, path: str) -> None:
            self.path = path

        def read_text(self) -> str:
            return "usage_usec 7000000\n" if self.path.startswith("/sys/fs/cgroup/") else ""

    monkeypatch.setattr(measure, "Path", Told)
    assert (measure.container_cpu("4a1d"), measure.container_cpu("")) == (7.0, 0.0)
