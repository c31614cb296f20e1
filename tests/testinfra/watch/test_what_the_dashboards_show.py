"""The dashboards against a Prometheus that has seen everything: this file is the last of the scenario's."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support import ROOT
from watching import Chain

BOARDS = sorted((ROOT / "monitoring/dashboards").glob("*.json"))
SINCE = "3h"  # each cause was made by then, and each figure told


@pytest.mark.long
@pytest.mark.parametrize("board", [pytest.param(path, id=path.stem) for path in BOARDS])
def test_every_query_has_had_an_answer(chain: Chain, board: Path) -> None:
    silent = []
    for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$stack", "shop")
            asked = urlencode({"query": f"last_over_time(({expr})[{SINCE}:10s])"})
            status, answer = chain.watch.http("GET", f"http://127.0.0.1:9090/api/v1/query?{asked}")
            assert status == 200, (expr, answer)
            if not answer["data"]["result"]:
                silent.append((panel["title"], expr))
    assert silent == []
