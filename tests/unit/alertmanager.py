# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Alertmanager makes of its configuration: whom an alert is sent to, and which others keep it back.

https://prometheus.io/docs/alerting/0.28/configuration/; amtool says the same where there is one (test_alertmanager.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Labels = Mapping[str, str]
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')


def matches(matchers: Sequence[str], alert: Labels) -> bool:
    for text in matchers:
        found = _MATCHER.fullmatch(text)
        assert found, f"{text!r} is not a matcher"
        value, wanted = alert.get(found[1], ""), found[3]
        same = bool(re.fullmatch(wanted, value)) if "~" in found[2] else value == wanted
        if same == found[2].startswith("!"):
            return False
    return True


def ways(
    route: Mapping[str, Any], alert: Labels, inherited: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The nodes that send the alert, with what they inherit."""
    own = {**(inherited or {}), **{key: value for key, value in route.items() if key not in ("routes", "matchers")}}
    taken = False
    for child in route.get("routes", ()):
        if matches(child["matchers"], alert):
            taken = True
            yield from ways(child, alert, {**own, "continue": False})
            if not child.get("continue"):
                return
    if not taken:
        yield own


def receivers(config: Mapping[str, Any], alert: Labels) -> list[str]:
    return [way["receiver"] for way in ways(config["route"], alert)]


def told(config: Mapping[str, Any], alerts: Sequence[Labels]) -> list[Labels]:
    """Those that no other one of them inhibits."""
    return [alert for alert in alerts if not any(_inhibits(rule, alert, alerts) for rule in config["inhibit_rules"])]


def _inhibits(rule: Mapping[str, Any], alert: Labels, alerts: Sequence[Labels]) -> bool:
    """An alert that is both source and target is not kept back by another one that is, too."""
    if not matches(rule["target_matchers"], alert):
        return False
    both = matches(rule["source_matchers"], alert)
    return any(
        matches(rule["source_matchers"], source)
        and all(source.get(name, "") == alert.get(name, "") for name in rule["equal"])
        and not (both and matches(rule["target_matchers"], source))
        for source in alerts
    )
