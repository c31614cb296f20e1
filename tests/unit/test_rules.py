# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts: each fires, does not fire, resolves, uses metrics that there are, and says what to do."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import debian
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import metrics as keeper_metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))
STACKS = ROOT / "monitoring" / "stacks.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for path in FILES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
}  # fmt: skip

# An hour each: good, bad, and two hours good again. Values are those of promtool's `values`, a minute apart.
LIMIT = "lifeboat_duty_allowed_age_seconds{%s}"
LAST = "lifeboat_duty_last_success_timestamp_seconds{%s}"
DONE, HOUR = "0x120 7260+60x119", "3600x240"  # the duty stops for two hours, and is done again


def switched(good: str, bad: str) -> str:
    return f"{good}x60 {bad}x59 {good}x119"


def duty(labels: str) -> dict[str, str]:
    return {LAST % f'stack="shop",{labels}': DONE, LIMIT % f'stack="shop",{labels}': HOUR}


SILENT = "0+60x60 stale _x58 7200+60x120"
SITE, OTHER_SITE = 'stack="shop",endpoint="https://shop.example/"', 'stack="wiki",endpoint="https://shop.example/"'
PROBED = 'probe_success{%s,job="lifeboat-endpoint_shop"}'
ENDS = 'probe_ssl_earliest_cert_expiry{%s,job="%s"}'
OF_BACKUP = '{stack="shop",component="database"}'
CASES: dict[str, dict[str, str]] = {
    "LifeboatStackAbsent": {
        'lifeboat_expected_stack{stack="shop"}': "1x240", 'lifeboat_expected_stack{stack="other"}': "1x240",
        'lifeboat_metrics_timestamp_seconds{stack="other"}': "0+60x240",
        'lifeboat_metrics_timestamp_seconds{stack="shop"}': SILENT,
    },
    "LifeboatMetricsOld": {'lifeboat_metrics_timestamp_seconds{stack="shop"}': "0+60x60 3600x58 7200+60x120"},
    "LifeboatFactsUnreadable": {
        'lifeboat_collector_success{stack="shop",collector="repository"}': switched("1", "0"),
    },
    "LifeboatDutyUnknown": {
        LIMIT % 'stack="shop",duty="backup",of="database"': "1000000x240",
        LAST % 'stack="shop",duty="backup",of="database"': SILENT,
    },
    "LifeboatStatusOld": duty('duty="status",of="stack"'),
    "LifeboatBackupStale": duty('duty="backup",of="database"'),
    "LifeboatChangesBehind": {
        'lifeboat_changes_reached_timestamp_seconds{stack="shop"}': DONE,
        'lifeboat_changes_allowed_age_seconds{stack="shop"}': HOUR,
    },
    "LifeboatRecoveryPointStale": duty('duty="recovery_point",of="stack"'),
    "LifeboatCopyStale": duty('duty="copy",of="database"'),
    "LifeboatWalNotOffHost": duty('duty="copy",of="wal"'),
    "LifeboatWalCheckFailed": {'lifeboat_wal_check_passed{stack="shop",check="wal"}': switched("1", "0")},
    "LifeboatVerificationOverdue": duty('duty="verify_restore",of="database"'),
    "LifeboatDrillOverdue": duty('duty="drill",of="site"'),
    "LifeboatEscrowOverdue": duty('duty="escrow",of="stack"'),
    "LifeboatRetentionOverdue": duty('duty="prune",of="stack"'),
    "LifeboatDutyOverdue": duty('duty="keeper_pull",of="database"'),
    "LifeboatRepositoryNotKnown": {'lifeboat_repository_known{stack="shop"}': switched("1", "0")},
    "LifeboatRunFailed": {'lifeboat_run_last_exit_code{stack="shop",run="backup_database"}': switched("0", "8")},
    "LifeboatBackupKilled": {'lifeboat_run_killed{stack="shop",run="backup_database"}': switched("0", "1")},
    "LifeboatRunsFailing": {'lifeboat_run_failures_total{stack="shop",run="prune"}': "3x60 3+1x3 7x180"},
    "LifeboatRunLong": {
        'lifeboat_run_last_duration_seconds{stack="shop",run="backup_database"}': "600x60 3900x59 600x119",
        'lifeboat_run_began_timestamp_seconds{stack="shop",run="backup_database"}': "0x240",
    },
    "LifeboatDatabaseDown": {'lifeboat_database_up{stack="shop"}': switched("1", "0")},
    "LifeboatNewestBackupBad": {f"lifeboat_backup_last_error_status{OF_BACKUP}": switched("0", "1")},
    "LifeboatVerdictNotPass": {
        'lifeboat_evidence_passed{stack="shop",host="app1",kind="drill",scenario="site"}': switched("1", "0"),
    },
    "LifeboatStatusNotPassed": {'lifeboat_check_passed{stack="shop",check="buckets"}': switched("1", "0")},
    "LifeboatCopiesMissing": {'lifeboat_check_passed{stack="shop",check="copies"}': switched("1", "0")},
    "LifeboatSecretsReadable": {'lifeboat_check_passed{stack="shop",check="secrets"}': switched("1", "0")},
    "LifeboatSizeDrop": {
        f"lifeboat_backup_size_bytes{OF_BACKUP}": switched("100", "49"),
        f"lifeboat_backup_median_size_bytes{OF_BACKUP}": "100x240",
    },
    "LifeboatBackupGrown": {
        f"lifeboat_backup_size_bytes{OF_BACKUP}": switched("300000000", "300000001"),
        f"lifeboat_backup_median_size_bytes{OF_BACKUP}": "100000000x240",
    },
    "LifeboatUnprotectedData": {f"lifeboat_backup_unprotected_items{OF_BACKUP}": switched("0", "1")},
    "LifeboatMountUnprotected": {
        'lifeboat_mounts{stack="shop",seen_by="status",protection="unprotected"}': switched("0", "1"),
        'lifeboat_mounts{stack="shop",seen_by="backup",protection="unprotected"}': switched("0", "2"),
        'lifeboat_mounts{stack="shop",seen_by="status",protection="excluded"}': "3x240",
    },
    "LifeboatQuarantineOld": {
        'lifeboat_quarantine_oldest_timestamp_seconds{stack="shop",kind="volume"}': switched("0", "-2600000"),
    },
    "LifeboatDiskSpace": {
        'lifeboat_repository_free_bytes{stack="shop"}': switched("300", "299"),
        'lifeboat_repository_largest_backup_bytes{stack="shop"}': "100x240",
    },
    "LifeboatDiskFull": {
        'lifeboat_repository_full_timestamp_seconds{stack="shop"}': switched("9000000", "2000000"),
    },
    "LifeboatClockWrong": {'lifeboat_clock_skew_seconds{stack="shop"}': switched("60", "61")},
    "LifeboatCertificateEnds": {
        'lifeboat_certificate_expiry_timestamp_seconds{stack="shop",endpoint="vault"}': switched("9000000", "1000000"),
    },
    "LifeboatKeeperAbsent": {
        'lifeboat_expected_keeper{stack="shop"}': "1x240", 'lifeboat_expected_keeper{stack="other"}': "1x240",
        'lifeboat_keeper_metrics_timestamp_seconds{stack="other"}': "0+60x240",
        'lifeboat_keeper_metrics_timestamp_seconds{stack="shop"}': SILENT,
    },
    "LifeboatKeeperMetricsOld": {
        'lifeboat_keeper_metrics_timestamp_seconds{stack="shop"}': "0+60x40 2400x78 7200+60x120",
    },
    "LifeboatKeeperPullStale": {
        'lifeboat_keeper_last_pull_timestamp_seconds{stack="shop"}': DONE,
        'lifeboat_keeper_last_pull_allowed_age_seconds{stack="shop"}': HOUR,
    },
    "LifeboatKeeperBehind": {
        'lifeboat_keeper_metrics_timestamp_seconds{stack="shop"}': "0+60x240",
        'lifeboat_keeper_last_note_timestamp_seconds{stack="shop"}': "0+60x60 3600x58 7140+60x120",
    },
    "LifeboatKeeperAlarm": {'lifeboat_keeper_alarm{stack="shop",kind="strange"}': switched("0", "1")},
    "LifeboatKeeperCheckFailed": {'lifeboat_keeper_check_passed{stack="shop",check="log"}': switched("1", "0")},
    "LifeboatKeeperQuota": {'lifeboat_keeper_quota_used_ratio{stack="shop"}': switched("0.9", "0.91")},
    "LifeboatEndpointDown": {
        **{f"lifeboat_expected_endpoint{{{of}}}": "1x240" for of in (SITE, OTHER_SITE)},
        PROBED % SITE: switched("1", "0"), PROBED % OTHER_SITE: "1x240",
    },
}  # fmt: skip
ALWAYS = "LifeboatWatchdog"
# What must not be told: by alert, a figure that looks alike.
QUIET = {
    "LifeboatStatusNotPassed": {'lifeboat_check_passed{stack="shop",check="copies"}': "0x240"},
    "LifeboatDutyOverdue": duty('duty="backup",of="database"'),
    "LifeboatBackupStale": duty('duty="drill",of="site"'),
    "LifeboatCopyStale": duty('duty="copy",of="wal"'),
    "LifeboatKeeperAlarm": {'lifeboat_keeper_alarm{stack="shop",kind="behind"}': "1x240"},
    "LifeboatWalNotOffHost": duty('duty="copy",of="base"'),
    "LifeboatClockWrong": {'lifeboat_metrics_timestamp_seconds{stack="shop"}': "0+60x240"},
    # One failure, whatever came after it, has LifeboatRunFailed.
    "LifeboatRunsFailing": {'lifeboat_run_failures_total{stack="shop",run="prune"}': "3x60 4x180"},
    "LifeboatBackupGrown": {
        f"lifeboat_backup_size_bytes{OF_BACKUP}": switched("1", "1000000"),
        f"lifeboat_backup_median_size_bytes{OF_BACKUP}": "1x240",
    },
    "LifeboatRunLong": {
        'lifeboat_run_last_duration_seconds{stack="shop",run="backup_database"}': "600x240",
        'lifeboat_run_began_timestamp_seconds{stack="shop",run="backup_database"}': "0x60 3600x58 0x122",
        'lifeboat_run_last_duration_seconds{stack="shop",run="verify"}': switched("10", "9000"),
    },
    "LifeboatDrillOverdue": {
        **duty('duty="drill",of="site"'),
        'lifeboat_duty_first_due_timestamp_seconds{stack="shop",duty="drill",of="site"}': "20000x240",
    },
    "LifeboatVerdictNotPass": {'lifeboat_evidence_passed{stack="shop",host="a",kind="drill",scenario="site"}': "1x240"},
    "LifeboatCertificateEnds": {ENDS % (SITE, "of-somebody-else"): "1000000x240"},
}
OF_EXPORTER = 'stack="shop",endpoint="exporter at app1:9100"'
# Other figures of which the same alert is.
AHEAD = {
    "LifeboatRunLong": {
        'lifeboat_run_last_duration_seconds{stack="shop",run="backup_database"}': "600x240",
        'lifeboat_run_began_timestamp_seconds{stack="shop",run="backup_database"}': "0x60 3000x58 0x122",
    },
    "LifeboatCertificateEnds": {ENDS % (SITE, "lifeboat-endpoint_shop"): switched("9000000", "1000000")},
    "LifeboatEndpointDown": {
        f"lifeboat_expected_endpoint{{{SITE}}}": "1x240",
        PROBED % SITE: "1x60 stale _x58 1x120",
    },
    "LifeboatClockWrong": {'lifeboat_metrics_timestamp_seconds{stack="shop"}': "0+60x60 4260+60x58 7200+60x120"},
}


def minutes(alert: str) -> int:
    found = re.fullmatch(r"(\d+)([mhd])", str(RULES[alert].get("for", "0m")))
    assert found, alert
    return int(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]]


def firing(alert: str, at: int, count: int) -> dict[str, Any]:
    return {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
        "eval_time": f"{at}m",
        "exp_samples": [{"labels": "{}", "value": count}],
    }


def case(alert: str, series: dict[str, str], expected: tuple[int, int, int]) -> dict[str, Any]:
    """Looked at while it is good, while it is bad, and when it is good again."""
    return {
        "name": alert, "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [firing(alert, at, count) for at, count in zip((30, 118, 238), expected)],
    }  # fmt: skip


def shortened(tmp_path: Path) -> Path:
    """The rules, where none waits for more than half an hour: what is waited for is not what is tested."""
    path = tmp_path / "rules.yml"
    groups = [group for file in FILES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    for rule in (rule for group in groups for rule in group["rules"]):
        if "for" in rule and minutes(rule["alert"]) > 30:
            rule["for"] = "30m"
        rule["expr"] = rule["expr"].replace("_total[1d]", "_total[1h]")
    path.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    return path


def tried(tmp_path: Path, cases: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    program = debian.required("promtool")
    path = tmp_path / "tests.yml"
    # Each state lasts an hour or two: what Prometheus looks at every 30 seconds is seen as well every three minutes.
    tests = {"rule_files": [str(shortened(tmp_path))], "evaluation_interval": "3m", "tests": cases}
    path.write_text(yaml.safe_dump(tests), encoding="utf-8")
    argv = [program, "test", "rules", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_each_alert_fires_does_not_fire_and_resolves(tmp_path: Path) -> None:
    cases = [case(alert, series, (0, 1, 0)) for alert, series in CASES.items()]
    cases += [case(alert, series, (0, 1, 0)) for alert, series in AHEAD.items()]
    cases += [case(alert, series, (0, 0, 0)) for alert, series in QUIET.items()]
    ends = {ENDS % (OF_EXPORTER, "lifeboat-exporter_shop"): switched("9000000", "1000000")}
    cases.append(case("LifeboatCertificateEnds", ends, (0, 1, 0)))
    cases.append(case(ALWAYS, {}, (1, 1, 1)))
    done = tried(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tried(tmp_path, [case("LifeboatRunFailed", CASES["LifeboatRunFailed"], (0, 0, 0))])
    assert wrong.returncode != 0, "a test that cannot fail"


@pytest.mark.slow
def test_what_an_alert_says(tmp_path: Path) -> None:
    alert, said = "LifeboatRunFailed", RULES["LifeboatRunFailed"]["annotations"]
    labels = {"stack": "shop", "run": "backup_database", "severity": "warning"}
    names = {"{{ $labels.stack }}": "shop", "{{ $labels.run }}": "backup_database", "{{ $value }}": "8"}
    shown = dict(said)
    for name, value in names.items():
        shown = {key: text.replace(name, value) for key, text in shown.items()}
    body = case(alert, CASES[alert], (0, 1, 0))
    expected = [{"exp_labels": labels, "exp_annotations": shown}]
    body["alert_rule_test"] = [{"eval_time": "118m", "alertname": alert, "exp_alerts": expected}]
    done = tried(tmp_path, [body])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_accepts_the_files(tmp_path: Path) -> None:
    program = debian.required("promtool")
    argv = [program, "check", "rules", *map(str, [*FILES, STACKS])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried() -> None:
    assert set(RULES) == {*CASES, ALWAYS}


def where(alert: str, command: str) -> str:
    """Where its command can work at all."""
    if command.startswith("ansible-playbook "):
        assert " -i " in command and "-e target=" in command and "-e confirm=" in command, command
        return "the controller"
    if "lifeboat keeper" in command:
        asks = "keeper metrics" in command or command.startswith("sudo -u keeper-{{ $labels.stack }} ")
        assert asks, "what the keeper's user has no other may read"
        return "the keeper"
    return "the host that watches" if alert == ALWAYS else "the stack's host"


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_says_what_to_do(alert: str) -> None:
    rule = RULES[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    said = rule["annotations"]
    # No address: where the pages are only who set the server up knows.
    assert set(said) == {"summary", "description", "where", "command", "runbook"}
    assert said["runbook"] == f"lifeboat explain {alert}" + (" --stack {{ $labels.stack }}" if alert != ALWAYS else "")
    if alert != ALWAYS:
        assert "{{ $labels.stack }}" in said["summary"]
    assert said["where"].partition(",")[0].partition(";")[0] == where(alert, said["command"])
    for verb in re.findall(r"\blifeboat ([a-z]+)", said["command"]):
        assert verb in cli._VERBS


@pytest.mark.parametrize("page", ["docs/alerts.md", "docs/ja/alerts.md"])
def test_each_alert_has_a_runbook_and_no_other_has(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"^## (Lifeboat\w+)$", text, re.MULTILINE) == list(RULES)


def test_each_metric_of_a_rule_is_one_that_the_command_writes() -> None:
    recorded = {
        rule["record"]
        for group in yaml.safe_load(STACKS.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }
    used = {name for rule in RULES.values() for name in re.findall(r"\blifeboat_\w+", rule["expr"])}
    assert sorted(used - set(metrics.METRICS) - set(keeper_metrics.METRICS) - recorded) == []


def test_the_duties_of_the_rules_are_those_of_the_code() -> None:
    """One that a rule names and nobody does would be a rule that never fires."""
    vault = config.VaultSettings(repository_bucket="copies")
    one = config.Config("shop", vault=vault, objects=config.ObjectsSettings(bucket="b"))
    one = config.dataclasses.replace(one, config=config.ConfigSettings(recipients=("age1x",)))
    known = {duty for duty, _of in metrics.duties(one)}
    named = set(re.findall(r'duty="(\w+)"', " ".join(rule["expr"] for rule in RULES.values())))
    assert named <= known
    assert {duty for duty in known if not duty.startswith("verify_")} == named


def test_every_rule_has_a_cause_on_the_lab_or_a_reason_why_not() -> None:
    """Molecule's scenario `watch` makes the causes, in make release."""
    known = runpy.run_path(str(ROOT / "tests/testinfra/watch/causes.py"))
    causes = (*known["CAUSES"], *known["KEEPER_CAUSES"])
    made = {cause.rule for cause in causes}
    assert sorted(made | set(known["ELSEWHERE"])) == sorted(RULES)
    assert not made & set(known["ELSEWHERE"])
    names = [cause.name for cause in causes]
    assert len(set(names)) == len(names) and all(cause.cause and cause.repair for cause in known["CAUSES"])
    assert all(cause.vault_cause and cause.vault_repair for cause in known["KEEPER_CAUSES"])
    assert all(len(reason) > 20 for reason in known["ELSEWHERE"].values())


NEVER = {"stack": "shop", "duty": "backup", "of": "database", "severity": "critical"}


@pytest.mark.slow
def test_what_was_never_done_is_not_counted_in_days_since_1970(tmp_path: Path) -> None:
    alert, since = "LifeboatBackupStale", "shop: no good backup of the database "
    runbook = f"lifeboat explain {alert} --stack shop"
    said = {**RULES[alert]["annotations"], "command": "lifeboat backup database --stack shop", "runbook": runbook}
    of = 'stack="shop",duty="backup",of="database"'
    cases = [
        {
            "interval": "1m",
            "input_series": [
                {"series": LAST % of, "values": f"{last}x60"}, {"series": LIMIT % of, "values": "3600x60"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "30m", "alertname": alert,
                    "exp_alerts": [{"exp_labels": NEVER, "exp_annotations": {**said, "summary": since + words}}],
                }
            ],
        }
        for last, words in ((-1790000000, "so far"), (-7200, "for 2h 30m 0s"))
    ]  # fmt: skip
    done = tried(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_age_of_a_duty_has_words_for_never() -> None:
    for name, rule in RULES.items():
        if re.search(r"time\(\) - lifeboat_duty_last_success", rule["expr"]):
            assert "{{ if gt $value 1e9 }}so far{{ else }}for {{ $value" in rule["annotations"]["summary"], name


@pytest.mark.slow
def test_a_keeper_that_never_pulled_whole_is_not_counted_in_days_since_1970(tmp_path: Path) -> None:
    alert, since = "LifeboatKeeperPullStale", "shop: the keeper pulled nothing whole "
    said = {
        **RULES[alert]["annotations"],
        "command": "sudo -u keeper-shop lifeboat keeper status --stack shop",
        "runbook": f"lifeboat explain {alert} --stack shop",
    }
    cases = [
        {
            "interval": "1m",
            "input_series": [
                # promtool's clock begins at 0, so that the beginning of ours is 1.79e9 seconds before it.
                {"series": 'lifeboat_keeper_last_pull_timestamp_seconds{stack="shop"}', "values": f"{last}x60"},
                {"series": 'lifeboat_keeper_last_pull_allowed_age_seconds{stack="shop"}', "values": "3600x60"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "30m", "alertname": alert,
                    "exp_alerts": [
                        {
                            "exp_labels": {"stack": "shop", "severity": "critical"},
                            "exp_annotations": {**said, "summary": since + words},
                        }
                    ],
                }
            ],
        }
        for last, words in ((-1790000000, "so far"), (-7200, "for 2h 30m 0s"))
    ]  # fmt: skip
    done = tried(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr
