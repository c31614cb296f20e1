# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom an alert is sent to, what keeps it back, and what it says when it arrives."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import alertmanager
import debian
import pytest
import yaml
from test_rules import CASES, RULES

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "monitoring" / "alertmanager.yml"
TEMPLATE = ROOT / "monitoring" / "alertmanager.tmpl"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
TEST = "LifeboatAlertTest"
SEVERITY = {name: rule["labels"]["severity"] for name, rule in RULES.items()}
# https://prometheus.io/docs/alerting/0.28/configuration/: what each part may have, without what would hold a secret.
FIELDS = {
    "global": "resolve_timeout smtp_smarthost smtp_from smtp_hello smtp_auth_username smtp_auth_password_file "
    "smtp_require_tls smtp_tls_config slack_api_url_file pagerduty_url http_config",
    "route": "receiver group_by continue matchers group_wait group_interval repeat_interval routes",
    "inhibit_rules": "source_matchers target_matchers equal",
    "slack_configs": "send_resolved api_url_file http_config channel username title title_link text fallback color "
    "pretext footer fields short_fields mrkdwn_in icon_emoji",
    "pagerduty_configs": "send_resolved routing_key_file http_config url client client_url description details "
    "severity class component group source links images",
    "opsgenie_configs": "send_resolved api_key_file api_url http_config message description source details responders "
    "tags note priority update_alerts entity actions",
    "msteamsv2_configs": "send_resolved webhook_url_file http_config title text",
    "email_configs": "send_resolved to from smarthost auth_username auth_password_file headers html text require_tls "
    "tls_config hello",
    "webhook_configs": "send_resolved url_file http_config max_alerts timeout",
}


def alert(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": SEVERITY.get(name, "critical"), "stack": "shop", **labels}


def of(name: str) -> dict[str, str]:
    """The alert with the labels that its rule gives it."""
    series = [text for text in CASES.get(name, {}) if 'stack="shop"' in text]
    return alert(name, **dict(re.findall(r'(\w+)="([^"]*)"', series[0] if series else "")))


def nodes(route: dict[str, Any]) -> list[dict[str, Any]]:
    return [route, *(node for child in route.get("routes", ()) for node in nodes(child))]


def parts(config: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [("global", config["global"]), *(("route", node) for node in nodes(config["route"]))]
    found += [("inhibit_rules", rule) for rule in config["inhibit_rules"]]
    return found + [
        (kind, way) for receiver in config["receivers"] for kind in receiver if kind != "name" for way in receiver[kind]
    ]


def test_every_field_is_documented_and_no_secret_is_in_the_file() -> None:
    assert set(CONFIG) == {"global", "templates", "route", "inhibit_rules", "receivers"}
    strange = [(kind, name) for kind, part in parts(CONFIG) for name in part if name not in FIELDS[kind].split()]
    assert strange == []
    by_file = {name: value for _kind, part in parts(CONFIG) for name, value in part.items() if name.endswith("_file")}
    assert set(by_file) == {
        "smtp_auth_password_file", "api_url_file", "routing_key_file", "api_key_file", "webhook_url_file", "url_file"
    }  # fmt: skip
    assert all(str(path).startswith("/etc/prometheus/lifeboat/") for path in by_file.values())


def test_every_receiver_is_there_and_used() -> None:
    named = [receiver["name"] for receiver in CONFIG["receivers"]]
    assert sorted(named) == sorted({node["receiver"] for node in nodes(CONFIG["route"])})
    assert all(len(receiver) > 1 for receiver in CONFIG["receivers"]), "each sends somewhere"


@pytest.mark.parametrize("name", RULES)
def test_each_alert_goes_where_its_severity_says(name: str) -> None:
    wanted = "watchdog" if name == "LifeboatWatchdog" else SEVERITY[name]
    pages = ["critical-pages"] if wanted == "critical" else []
    assert alertmanager.receivers(CONFIG, of(name)) == [wanted, *pages]
    way = next(alertmanager.ways(CONFIG["route"], of(name)))
    assert way["group_by"] == (["alertname"] if name == "LifeboatWatchdog" else ["stack"])


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "critical"), ("warning", "warning"), ("info", "info"), ("page", "warning"), ("", "warning")],
)
def test_nothing_is_dropped_and_the_test_goes_the_same_way(severity: str, receiver: str) -> None:
    wanted = [receiver, *(["critical-pages"] if receiver == "critical" else [])]
    assert alertmanager.receivers(CONFIG, alert("Other", severity=severity)) == wanted
    assert alertmanager.receivers(CONFIG, alert(TEST, severity=severity)) == wanted
    assert next(alertmanager.ways(CONFIG["route"], alert(TEST, severity=severity)))["group_wait"] == "0s"


def test_each_critical_alert_of_a_stack_pages_with_a_key_of_its_own() -> None:
    """PagerDuty's key and Opsgenie's alias are those of the group: what joins one that is open calls nobody."""
    pages = [way for way in alertmanager.ways(CONFIG["route"], of("LifeboatBackupStale")) if "pages" in way["receiver"]]
    assert [way["group_by"] for way in pages] == [["stack", "alertname"]]
    (receiver,) = [one for one in CONFIG["receivers"] if one["name"] == "critical-pages"]
    assert set(receiver) == {"name", "pagerduty_configs", "opsgenie_configs"}
    others = [one for one in CONFIG["receivers"] if one is not receiver]
    assert all(not {"pagerduty_configs", "opsgenie_configs"} & set(one) for one in others)


def test_the_watchdog_leaves_alone_and_often() -> None:
    way = next(alertmanager.ways(CONFIG["route"], of("LifeboatWatchdog")))
    assert (way["group_wait"], way["group_interval"], way["repeat_interval"]) == ("0s", "1m", "5m")
    watchdog = next(receiver for receiver in CONFIG["receivers"] if receiver["name"] == "watchdog")
    assert watchdog["webhook_configs"] == [
        {"url_file": "/etc/prometheus/lifeboat/watchdog_url", "send_resolved": False}
    ]


STALE = ["LifeboatBackupStale", "LifeboatCopyStale", "LifeboatRecoveryPointStale"]
KEEPER = [name for name in RULES if name.startswith("LifeboatKeeper")]
DOWN = "LifeboatEndpointDown"
OTHERS = ("LifeboatWatchdog", "LifeboatStackAbsent", "LifeboatMetricsOld", *KEEPER, DOWN)
ALL = [name for name in RULES if name not in OTHERS]
ONE_CAUSE = {
    "a host is down": (["LifeboatStackAbsent", "LifeboatMetricsOld", *ALL], ["LifeboatStackAbsent"]),
    "a host is down, and its users see that": (["LifeboatStackAbsent", DOWN], ["LifeboatStackAbsent", DOWN]),
    "its metrics are old": (["LifeboatMetricsOld", *ALL], ["LifeboatMetricsOld"]),
    "no backup": (STALE, ["LifeboatBackupStale"]),
    "a backup and no copy": (STALE[1:], STALE[1:]),
    "facts unreadable": (["LifeboatFactsUnreadable", "LifeboatDutyUnknown"], ["LifeboatFactsUnreadable"]),
    "not asked": (["LifeboatStatusOld", "LifeboatStatusNotPassed"], ["LifeboatStatusOld"]),
    "damaged": (["LifeboatNewestBackupBad", "LifeboatSizeDrop"], ["LifeboatNewestBackupBad"]),
    "full": (["LifeboatDiskSpace", "LifeboatDiskFull"], ["LifeboatDiskSpace"]),
    "its keeper is down": (KEEPER, ["LifeboatKeeperAbsent"]),
}


@pytest.mark.parametrize("cause", ONE_CAUSE)
def test_one_cause_is_one_alert(cause: str) -> None:
    names, wanted = ONE_CAUSE[cause]
    alerts = [of(name) for name in names]
    assert [sent["alertname"] for sent in alertmanager.told(CONFIG, alerts)] == wanted
    elsewhere = [{**fired, "stack": "other"} for fired in alerts if fired["alertname"] in wanted]
    rest = [fired for fired in alerts if fired["alertname"] not in wanted]
    found = alertmanager.told(CONFIG, [*elsewhere, *rest])
    assert found == [*elsewhere, *alertmanager.told(CONFIG, rest)], "another stack's cause explains nothing here"
    assert found != elsewhere or not rest


def test_what_is_never_kept_back() -> None:
    causes = [of(name) for name in RULES]
    for still in (
        of("LifeboatWatchdog"),
        alert(TEST),
        alert("HostOutOfMemory"),
        alert("LifeboatMetricsOld", stack="b"),
    ):
        assert still in alertmanager.told(CONFIG, [*causes, still])
    assert of("LifeboatStackAbsent") in alertmanager.told(CONFIG, causes)


def test_who_took_a_host_over_cannot_silence_its_keeper() -> None:
    host = [of("LifeboatStackAbsent"), of("LifeboatMetricsOld")]
    for name in KEEPER:
        assert of(name) in alertmanager.told(CONFIG, [*host, of(name)])


def test_a_stale_backup_explains_the_copies_of_its_own_component_only() -> None:
    alerts = [alert("LifeboatBackupStale", of="objects"), alert("LifeboatCopyStale", of="database")]
    assert alertmanager.told(CONFIG, alerts) == alerts
    damaged = [alert("LifeboatNewestBackupBad", component="config"), alert("LifeboatSizeDrop", component="database")]
    assert alertmanager.told(CONFIG, damaged) == damaged


def test_inhibitions_name_alerts_and_labels_that_there_are() -> None:
    for rule in CONFIG["inhibit_rules"]:
        source = re.findall(r'"(\w+)"', rule["source_matchers"][0])
        exact = [found[0] for text in rule["target_matchers"] if (found := re.findall(r'alertname = "(\w+)"', text))]
        for name in source + exact:
            assert name in RULES
            missing = [label for label in rule["equal"] if label not in of(name)]
            assert missing == [], "what neither has is equal"
        skipped = [text for text in rule["target_matchers"] if "!~" in text]
        for name in re.findall(r"\w+", " ".join(re.findall(r"\((.*)\)", " ".join(skipped)))):
            assert f"Lifeboat{name}" in {*RULES, TEST} or name == "Keeper"


def test_what_a_message_says() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    defined = re.findall(r'{{ define "([\w.]+)"', text)
    used = set(re.findall(r'{{ template "([\w.]+)" \. }}', FILE.read_text(encoding="utf-8")))
    assert sorted(used) == sorted(defined)
    for name in defined:
        body = text.split(f'{{{{ define "{name}"', 1)[1].split("{{ define", 1)[0]
        assert len(re.findall(r"{{-? (?:if|with|range)\b", body)) + 1 == len(re.findall(r"{{-? end\b", body))
    for name in ("lifeboat.text", "lifeboat.slack", "lifeboat.teams"):
        body = text.split(f'{{{{ define "{name}"', 1)[1].split("{{ define", 1)[0]
        for said in (
            ".Annotations.summary",
            ".StartsAt",
            ".Annotations.command",
            ".Annotations.runbook",
            ".Annotations.runbook_url",
        ):
            assert said in body
    for slack in CONFIG["receivers"][0]["slack_configs"]:
        assert slack["text"], "Slack shows an attachment without text as an empty line"


def amtool(*words: str) -> str:
    """amtool's answer."""
    done = subprocess.run([debian.required("amtool"), *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path: Path) -> str:
    text = FILE.read_text(encoding="utf-8").replace("/etc/prometheus/lifeboat/alertmanager.tmpl", str(TEMPLATE))
    path = tmp_path / "alertmanager.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_amtool_accepts_it(here: str) -> None:
    said = amtool("check-config", here)
    assert "SUCCESS" in said and "1 templates" in said


@pytest.mark.slow
def test_amtool_routes_as_we_do(here: str) -> None:
    for labelled in [*map(of, RULES), alert(TEST), alert(TEST, severity="info"), alert("Other", severity="page")]:
        labels = [f"{name}={value}" for name, value in labelled.items()]
        said = amtool("config", "routes", "test", f"--config.file={here}", *labels)
        assert said.strip().split(",") == alertmanager.receivers(CONFIG, labelled)


@pytest.mark.slow
def test_amtool_renders_the_messages(tmp_path: Path) -> None:
    since = "2026-11-24T02:00:00Z"
    annotations = {
        "summary": "shop: no good backup", "command": "lifeboat backup",
        "runbook": "lifeboat explain LifeboatBackupStale", "runbook_url": "https://x/#y",
    }  # fmt: skip
    one = {"status": "firing", "labels": of("LifeboatBackupStale"), "annotations": annotations, "startsAt": since}
    common = {"commonLabels": one["labels"], "commonAnnotations": annotations}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"receiver": "critical", "status": "firing", "alerts": [one], **common}))
    words = ("template", "render", f"--template.glob={TEMPLATE}", f"--template.data={data}")
    title = amtool(*words, '--template.text={{ template "lifeboat.title" . }}').strip()
    assert title == "[critical] shop: no good backup"
    for name in ("text", "slack", "teams"):
        said = amtool(*words, f'--template.text={{{{ template "lifeboat.{name}" . }}}}')
        for wanted in (*annotations.values(), "2026-11-24 02:00:00 UTC"):
            assert wanted in said


def group(status: str, *alerts: dict[str, Any]) -> dict[str, Any]:
    """What Alertmanager gives to a template: only what all alerts have in common is common."""
    common: dict[str, dict[str, str]] = {}
    for part in ("labels", "annotations"):
        pairs = [set(one[part].items()) for one in alerts]
        common[part] = dict(set.intersection(*pairs))
    data = {"receiver": "critical", "status": status, "alerts": list(alerts)}
    return {**data, "commonLabels": common["labels"], "commonAnnotations": common["annotations"]}


def fired(name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    said = {key: text.replace("{{ $labels.stack }}", "shop") for key, text in RULES[name]["annotations"].items()}
    times = {"startsAt": "2026-11-24T02:00:00Z", "endsAt": "2026-11-24T03:00:00Z"}
    return {"status": status, "labels": {**of(name), **labels}, "annotations": said, **times}


KNOWN, COPIES, ALARM = "LifeboatRepositoryNotKnown", "LifeboatCopiesMissing", "LifeboatKeeperAlarm"
TITLES = [
    (group("firing", fired(KNOWN)), f"[critical] {fired(KNOWN)['annotations']['summary']}"),
    (group("firing", fired(KNOWN), fired(COPIES), fired(ALARM)),
     f"[critical] {fired(KNOWN)['annotations']['summary']} and 2 more"),
    # An alert of the group has ended, and the others go on.
    (group("firing", fired(COPIES, "resolved"), fired(KNOWN)), f"[critical] {fired(KNOWN)['annotations']['summary']}"),
    (group("firing", fired("LifeboatDiskFull"), fired(COPIES)),
     f"[critical] {fired(COPIES)['annotations']['summary']} and 1 more"),
    (group("firing", fired("LifeboatQuarantineOld"), fired("LifeboatDiskFull")),
     f"[warning] {fired('LifeboatDiskFull')['annotations']['summary']} and 1 more"),
    (group("resolved", fired(KNOWN, "resolved"), fired(COPIES, "resolved")),
     f"[resolved] {fired(KNOWN)['annotations']['summary']} and 1 more"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("data", "wanted"), TITLES)
def test_a_title_says_what_is_worst_and_never_only_a_number(data: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data))
    words = ("template", "render", f"--template.glob={TEMPLATE}", f"--template.data={path}")
    assert amtool(*words, '--template.text={{ template "lifeboat.title" . }}').strip() == wanted


@pytest.mark.slow
def test_a_message_says_where_its_command_is_typed(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(group("firing", fired(ALARM), fired(DOWN), fired(KNOWN))))
    words = ("template", "render", f"--template.glob={TEMPLATE}", f"--template.data={path}")
    for name in ("text", "slack", "teams"):
        said = amtool(*words, f'--template.text={{{{ template "lifeboat.{name}" . }}}}').replace("`", "")
        assert "Run on the keeper, as root: sudo -u keeper-shop lifeboat keeper status --stack shop" in said
        assert "Run on the stack's host, as root: lifeboat status --stack shop" in said
        assert "Run on the controller; " in said
        assert "lifeboat explain LifeboatKeeperAlarm --stack shop\n" in said and "runbook_url" not in said
    assert amtool(*words, '--template.text={{ template "lifeboat.link" . }}').strip() == "", "nobody gave an address"
    runbook = amtool(*words, '--template.text={{ template "lifeboat.runbook" . }}').strip()
    assert runbook == "lifeboat explain LifeboatKeeperAlarm --stack shop", "of the alert that the title names"
    command = amtool(*words, '--template.text={{ template "lifeboat.command" . }}').strip()
    assert command.startswith("the keeper, as root: sudo -u keeper-shop lifeboat keeper")
