# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles that watch: what they refuse, and what they write, with Ansible's own templates."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import alertmanager
import debian
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import metrics as keeper_metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics
from ansible_collections.lifeboat.dr.plugins.modules import schedule
from test_alertmanager import CONFIG, FIELDS, TEST, alert, nodes, of, parts
from test_awx import render, trusted
from test_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "slack": "https://hooks.example.com/T0/hunter2-slack", "pagerduty": "hunter2-pagerduty-key",
    "opsgenie": "hunter2-opsgenie-key", "teams": "https://x.example.com/hunter2-teams",
    "email": "hunter2-mail-password", "webhook": "https://x.example.com/hunter2-webhook",
    "watchdog": "https://hc.example.com/hunter2-watchdog", "scrape": "hunter2-scrape-password",
}  # fmt: skip
WAYS: dict[str, Any] = {
    "monitoring_server_slack": {"url": SECRETS["slack"], "channel": "#operations"},
    "monitoring_server_pagerduty": {"key": SECRETS["pagerduty"]},
    "monitoring_server_opsgenie": {"key": SECRETS["opsgenie"]},
    "monitoring_server_teams": {"url": SECRETS["teams"]},
    "monitoring_server_email": {
        "to": "operations@example.com", "from": "lifeboat@example.com", "smarthost": "mail.example.com:587",
        "user": "lifeboat", "password": SECRETS["email"],
    },
    "monitoring_server_webhook": {"url": SECRETS["webhook"]},
}  # fmt: skip
SITE = "https://shop.example/health"
SERVER: dict[str, Any] = {
    "monitoring_server_stacks": [
        {"stack": "shop", "address": "shop1:9100", "keeper": "keeper1:9100", "endpoints": [SITE]},
        {"stack": "a.b", "address": "[::1]:9100"},
    ],
    "monitoring_server_user": "prometheus",
    "monitoring_server_password": SECRETS["scrape"],
    "monitoring_server_ca": "/etc/ssl/our-ca.pem",
    "monitoring_server_watchdog_url": f"{SECRETS['watchdog']}\n",
    **WAYS,
}
AGENT: dict[str, Any] = {
    "lifeboat_stack": "shop",
    "lifeboat_monitoring": {"textfile_directory": "/var/lib/prometheus/node-exporter"},
}
GUARD = {"certificate": "/etc/ssl/x.pem", "key": "/etc/ssl/x.key", "users": {"prometheus": "$2y$10$abc"}}


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / path).read_text(encoding="utf-8"))


def variables(role: str, given: dict[str, Any]) -> dict[str, Any]:
    found = {
        **load(f"{role}/defaults/main.yml"),
        "inventory_hostname": "watch1",
        "role_path": str(ROOT / "roles" / role),
    }
    made: dict[str, Any] = trusted({**found, **given, **load(f"{role}/vars/main.yml")})
    # The file that a lookup reads in a play; what is in its braces is Prometheus's to fill in.
    rules = (ROOT / "monitoring/rules/lifeboat.yml").read_text(encoding="utf-8")
    return {**made, "__monitoring_server_rules": rules}


def written(role: str, template: str, given: dict[str, Any], **more: Any) -> str:
    text = (ROOT / "roles" / role / "templates" / template).read_text(encoding="utf-8")
    made = render(text, {**variables(role, given), **more})
    assert isinstance(made, str)
    return made


def refusals(role: str, given: dict[str, Any], **more: Any) -> list[str]:
    """The messages of the assertions of check.yml that do not hold."""
    said = []
    for task in load(f"{role}/tasks/check.yml"):
        wanted = task.get("ansible.builtin.assert")
        for item in task.get("loop", [None]) if wanted else ():
            known = {**variables(role, given), **more, **trusted(task.get("vars", {})), "item": trusted(item)}
            that = wanted["that"] if isinstance(wanted["that"], list) else [wanted["that"]]
            if not all(render("{{ " + condition + " }}", known) is True for condition in that):
                said.append(str(render(wanted["fail_msg"], known)))
    return said


def server(given: dict[str, Any], files: list[dict[str, str]] | None = None) -> list[str]:
    return refusals("monitoring_server", given, __monitoring_server_protected={"files": files or []})


def endpoint(url: str) -> list[dict[str, Any]]:
    return [{"stack": "shop", "address": "x:1", "endpoints": [SITE, url]}]


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {**{name: value for name, value in SERVER.items() if name not in names}, **changes}


REFUSED = [
    (without(lifeboat_stack="shop"), [], "watch1 protects a stack itself (shop)"),
    (without(), [{"path": "/etc/lifeboat/shop.json"}], "watch1 protects a stack itself (/etc/lifeboat/shop.json)"),
    (without(monitoring_server_listen="0.0.0.0:9090"), [], "monitoring_server_listen is 0.0.0.0:9090, beyond loopback"),
    (without(monitoring_server_listen=":9090", monitoring_server_users=GUARD["users"]), [], "beyond loopback"),
    (without(monitoring_server_stacks=[]), [], "wants at least one stack"),
    (without(monitoring_server_stacks=SERVER["monitoring_server_stacks"] * 2), [], "a plain name of its own"),
    (without(monitoring_server_stacks=[{"stack": "a\nb", "address": "x:1"}]), [], "a plain name of its own"),
    (without(monitoring_server_stacks=[{"stack": "shop", "address": "x"}]), [], "an address such as"),
    (without(*WAYS), [], "Nobody would be told."),
    (without(monitoring_server_info=[]), [], "Nobody would be told."),
    (without(*WAYS, monitoring_server_pagerduty={"key": "k"}), [], "Given: pagerduty"),
    (without(monitoring_server_slack={"url": "https://x"}), [], "monitoring_server_slack needs url, channel"),
    (without(monitoring_server_pagerduty={"url": "x"}), [], "monitoring_server_pagerduty needs key"),
    (without(monitoring_server_opsgenie={"url": "x"}), [], "monitoring_server_opsgenie needs key"),
    (without(monitoring_server_teams={"key": "x"}), [], "monitoring_server_teams needs url"),
    (without(monitoring_server_email={"to": "a"}), [], "monitoring_server_email needs to, from, smarthost"),
    (without(monitoring_server_webhook={"uri": "a"}), [], "monitoring_server_webhook needs url"),
    (without(monitoring_server_interval="0s"), [], "A time is a number and s, m, h or d"),
    (without(monitoring_server_patience={"LifeboatMetricsOld": "long"}), [], '"LifeboatMetricsOld": "long"'),
    (
        without(monitoring_server_patience={"LifeboatRunFailed": "5m"}),
        [],
        "monitoring_server_patience takes LifeboatStack",
    ),
    (
        without(monitoring_server_stacks=[{"stack": "shop", "address": "x:1", "keeper": "keeper1"}]),
        [],
        "of its keeper such as keeper1",
    ),
    (without(monitoring_server_stacks=endpoint("shop.example")), [], "such as https://shop.example/health"),
    (without(monitoring_server_stacks=endpoint("https://a b/")), [], "those of shop are not"),
    (
        without(monitoring_server_stacks=endpoint("https://x:hunter2@shop.example/")),
        [],
        "without a user and a password",
    ),
]


@pytest.mark.parametrize(("given", "files", "said"), REFUSED)
def test_the_server_refuses(given: dict[str, Any], files: list[dict[str, str]], said: str) -> None:
    assert server(SERVER) == []
    (found,) = server(given, files)
    assert said in found and found.endswith("Nothing was changed.")
    assert "hunter2" not in found


def test_the_server_may_listen_beyond_loopback_with_tls_and_users() -> None:
    guard = {f"monitoring_server_{name}": value for name, value in GUARD.items()}
    assert server(without(monitoring_server_listen="0.0.0.0:9090", **guard)) == []
    web = yaml.safe_load(written("monitoring_server", "web.yml.j2", without(**guard)))
    assert web == {
        "tls_server_config": {"cert_file": GUARD["certificate"], "key_file": GUARD["key"]},
        "basic_auth_users": GUARD["users"],
    }


def test_the_server_writes_the_configuration_that_is_documented() -> None:
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", SERVER))
    assert made == CONFIG


def documented(way: str) -> Any:
    return next(one[part(way)] for one in CONFIG["receivers"] if part(way) in one)


def part(way: str) -> str:
    return "msteamsv2_configs" if way == "teams" else f"{way}_configs"


@pytest.mark.parametrize("pagers", [["pagerduty"], ["opsgenie"], ["pagerduty", "opsgenie"]])
def test_whatever_calls_somebody_has_a_key_for_each_alert(pagers: list[str]) -> None:
    every = {f"monitoring_server_{severity}": ["slack", *pagers] for severity in ("critical", "warning", "info")}
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", without(**every)))
    paged = {one["name"] for one in made["receivers"] if all(part(way) in one for way in pagers)}
    assert paged == {"critical-pages", "warning-pages", "info-pages"}
    assert {node["receiver"] for node in nodes(made["route"])} == {receiver["name"] for receiver in made["receivers"]}
    for severity, name in (("critical", "critical"), ("warning", "warning"), ("info", "info"), ("", "warning")):
        for labelled in (alert("Other", severity=severity), alert(TEST, severity=severity)):
            assert sorted(alertmanager.receivers(made, labelled)) == [name, f"{name}-pages"]
        ways = {way["receiver"]: way for way in alertmanager.ways(made["route"], alert("Other", severity=severity))}
        assert ways[f"{name}-pages"]["group_by"] == ["stack", "alertname"]
        assert ways[name]["group_by"] == ["stack"]


@pytest.mark.parametrize("way", [name.removeprefix("monitoring_server_") for name in WAYS])
def test_one_way_alone_is_a_whole_configuration(way: str) -> None:
    name = f"monitoring_server_{way}"
    every = {f"monitoring_server_{severity}": [way] for severity in ("critical", "warning", "info")}
    given = without(*WAYS, "monitoring_server_watchdog_url", **{name: WAYS[name]}, **every)
    assert server(given) == []
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", given))
    assert sorted(made["receivers"], key=lambda one: str(one["name"]))[:2] == [
        {"name": severity, part(way): documented(way)} for severity in ("critical", "info")
    ]
    assert {node["receiver"] for node in nodes(made["route"])} == {receiver["name"] for receiver in made["receivers"]}
    assert alertmanager.receivers(made, of("LifeboatWatchdog")) == ["nobody"]
    assert ("smtp_from" in made["global"]) == (way == "email")
    assert [kind for kind, node in parts(made) if set(node) - set(FIELDS[kind].split())] == []
    for labelled in (*map(of, RULES), alert(TEST)):
        assert alertmanager.receivers(made, labelled) in (alertmanager.receivers(CONFIG, labelled)[:1], ["nobody"])
        (node,) = alertmanager.ways(made["route"], labelled)
        if way in ("pagerduty", "opsgenie") and labelled["alertname"] not in ("LifeboatWatchdog", TEST):
            assert node["group_by"] == ["stack", "alertname"]


def test_two_ways_that_call_somebody_are_a_whole_configuration_too() -> None:
    every = {f"monitoring_server_{severity}": ["pagerduty", "opsgenie"] for severity in ("critical", "warning", "info")}
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", without(**every)))
    assert {one["name"] for one in made["receivers"]} == {"critical", "warning", "info", "watchdog"}
    for labelled in map(of, RULES):
        for node in alertmanager.ways(made["route"], labelled):
            assert node["group_by"] == ["stack", "alertname"] or labelled["alertname"] == "LifeboatWatchdog"


def test_an_opsgenie_elsewhere() -> None:
    given = without(monitoring_server_opsgenie={"key": "k", "url": "https://api.eu.opsgenie.com/"})
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", given))
    urls = [way["api_url"] for one in made["receivers"] for way in one.get("opsgenie_configs", ())]
    assert urls == ["https://api.eu.opsgenie.com/"]


def test_a_mail_server_without_a_password_and_a_pagerduty_elsewhere() -> None:
    mail = {"to": "a@x", "from": "b@x", "smarthost": "localhost:25", "tls": False}
    elsewhere = {"key": "k", "url": "http://127.0.0.1:8080/v2/enqueue"}
    given = without(monitoring_server_email=mail, monitoring_server_pagerduty=elsewhere)
    made = yaml.safe_load(written("monitoring_server", "alertmanager.yml.j2", given))
    assert made["global"] == {
        "resolve_timeout": "5m", "smtp_smarthost": "localhost:25", "smtp_from": "b@x", "smtp_require_tls": False,
    }  # fmt: skip
    urls = [way["url"] for one in made["receivers"] for way in one.get("pagerduty_configs", ())]
    assert urls == [elsewhere["url"]]


def test_prometheus_believes_a_host_about_its_own_stack_only() -> None:
    made = yaml.safe_load(written("monitoring_server", "prometheus.yml.j2", SERVER))
    names = [job["job_name"] for job in made["scrape_configs"]]
    of_shop = ["lifeboat_shop", "lifeboat-keeper_shop", "lifeboat-endpoint_shop", "lifeboat-exporter_shop"]
    assert names == [*of_shop, "lifeboat_a.b", "lifeboat-exporter_a.b"]
    jobs = [job for job in made["scrape_configs"] if "-" not in job["job_name"]]
    for job, stack, other in zip(jobs, ("shop", "a.b"), ("shopping", "axb")):
        keep, drop = job["metric_relabel_configs"]
        assert (drop["action"], drop["source_labels"]) == ("drop", ["__name__"])
        assert all(re.fullmatch(drop["regex"], name) for name in keeper_metrics.METRICS)
        assert not any(re.fullmatch(drop["regex"], name) for name in metrics.METRICS)
        assert (keep["action"], keep["source_labels"]) == ("keep", ["stack"])
        assert re.fullmatch(keep["regex"], stack) and not re.fullmatch(keep["regex"], other)
        assert job["scheme"] == "https" and job["tls_config"] == {"ca_file": "/etc/ssl/our-ca.pem"}
        assert job["basic_auth"] == {
            "username": "prometheus", "password_file": "/etc/prometheus/lifeboat/scrape_password",
        }  # fmt: skip
    scrape = yaml.safe_load((ROOT / "monitoring" / "scrape.yml").read_text(encoding="utf-8"))
    assert scrape == {"scrape_configs": made["scrape_configs"][:4]}, "the file for a Prometheus of one's own"
    (keep,) = made["scrape_configs"][1]["metric_relabel_configs"]
    assert (keep["action"], keep["source_labels"]) == ("keep", ["__name__", "stack"])
    assert all(re.fullmatch(keep["regex"], f"{name};shop") for name in keeper_metrics.METRICS)
    others = [
        "lifeboat_keeper_alarm;other",
        "lifeboat_keeper_alarm;shopping",
        *(f"{name};shop" for name in metrics.METRICS),
    ]
    assert not any(re.fullmatch(keep["regex"], name) for name in others), "nor does a keeper say that the stack is well"
    plain = without("monitoring_server_ca", "monitoring_server_user", monitoring_server_scheme="http")
    job = yaml.safe_load(written("monitoring_server", "prometheus.yml.j2", plain))["scrape_configs"][0]
    assert not {"tls_config", "basic_auth"} & set(job)
    stacks = yaml.safe_load(written("monitoring_server", "stacks.yml.j2", SERVER))
    documented = yaml.safe_load((ROOT / "monitoring" / "stacks.yml").read_text(encoding="utf-8"))
    assert stacks["groups"][0]["rules"][:3] == documented["groups"][0]["rules"]
    assert [rule["labels"]["stack"] for rule in stacks["groups"][0]["rules"]] == ["shop", "shop", "shop", "a.b"]


def test_what_is_asked_from_outside_is_told_of_its_own_stack() -> None:
    made = yaml.safe_load(written("monitoring_server", "prometheus.yml.j2", SERVER))
    job = made["scrape_configs"][2]
    assert job["static_configs"] == [{"targets": [SITE], "labels": {"stack": "shop"}}]
    assert [part["target_label"] for part in job["relabel_configs"]] == ["__param_target", "endpoint", "__address__"]
    assert job["relabel_configs"][-1]["replacement"] == "127.0.0.1:9115"
    (module,) = job["params"]["module"]
    modules = yaml.safe_load((ROOT / "roles/monitoring_server/files/blackbox.yml").read_text(encoding="utf-8"))
    assert module in modules["modules"]
    (keep,) = job["metric_relabel_configs"]
    told = set(re.findall(r"\bprobe_\w+", " ".join(rule["expr"] for rule in RULES.values())))
    assert told and told <= set(keep["regex"].split("|")) and keep["action"] == "keep"
    expected = yaml.safe_load(written("monitoring_server", "stacks.yml.j2", SERVER))["groups"][0]["rules"][2]
    assert (expected["record"], expected["labels"]) == (
        "lifeboat_expected_endpoint",
        {"stack": "shop", "endpoint": SITE},
    )


def test_the_certificates_of_the_exporters_are_looked_at() -> None:
    """When one ends Prometheus hears nothing more of its stack, which says nothing of a certificate."""
    made = yaml.safe_load(written("monitoring_server", "prometheus.yml.j2", SERVER))
    job = made["scrape_configs"][3]
    scraped = [target for one in made["scrape_configs"][:2] for target in one["static_configs"][0]["targets"]]
    assert job["static_configs"] == [{"targets": scraped, "labels": {"stack": "shop"}}]
    (module,) = job["params"]["module"]
    modules = yaml.safe_load((ROOT / "roles/monitoring_server/files/blackbox.yml").read_text(encoding="utf-8"))
    # The one that has ended is told, too; whether it is the right one Prometheus judges.
    assert modules["modules"][module]["tcp"] == {"tls": True, "tls_config": {"insecure_skip_verify": True}}
    (keep,) = job["metric_relabel_configs"]
    assert (keep["regex"], keep["action"]) == ("probe_ssl_earliest_cert_expiry", "keep")
    expr = RULES["LifeboatCertificateEnds"]["expr"]
    (jobs,) = re.findall(r'job=~"([^"]+)"', expr)
    assert re.fullmatch(jobs, job["job_name"]) and re.fullmatch(jobs, made["scrape_configs"][2]["job_name"])
    plain = without("monitoring_server_ca", monitoring_server_scheme="http")
    made = yaml.safe_load(written("monitoring_server", "prometheus.yml.j2", plain))
    assert not [job for job in made["scrape_configs"] if "exporter" in job["job_name"]], "they have none"


def test_without_endpoints_nothing_more_is_installed() -> None:
    _both, install = load("monitoring_server/tasks/packages.yml")
    assert install["ansible.builtin.apt"]["name"] == "prometheus-blackbox-exporter"
    plain = without(monitoring_server_stacks=[{"stack": "shop", "address": "x:1"}], monitoring_server_scheme="http")
    guarded = {**plain, "monitoring_server_scheme": "https"}
    for given, whether in ((plain, False), (guarded, True), (SERVER, True)):
        assert render("{{ " + install["when"] + " }}", variables("monitoring_server", given)) is whether


def test_no_secret_is_in_a_file_that_is_shown() -> None:
    folder = ROOT / "roles" / "monitoring_server" / "templates"
    for path in folder.glob("*.j2"):
        text = written("monitoring_server", path.name, SERVER, __monitoring_server_arguments="x")
        assert "hunter2" not in text, path.name
    secrets = render(
        load("monitoring_server/vars/main.yml")["__monitoring_server_secrets"], variables("monitoring_server", SERVER)
    )
    assert sorted(str(value).strip() for value in secrets.values()) == sorted(SECRETS.values()), "each has a file"
    (write,) = (task for task in load("monitoring_server/tasks/secrets.yml") if "ansible.builtin.copy" in task)
    assert write["no_log"] is True and write["ansible.builtin.copy"]["mode"] == "0640"
    named = {
        Path(str(value)).name for _kind, part in parts(CONFIG) for key, value in part.items() if key.endswith("_file")
    }
    assert named | {"scrape_password"} == set(secrets)
    options = load("monitoring_server/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    hidden = {name for name, option in options.items() if option.get("no_log")}
    assert hidden == {*WAYS, "monitoring_server_password", "monitoring_server_watchdog_url"}


def test_the_playbook_finds_the_stacks_and_their_ports() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/monitoring.yml").read_text(encoding="utf-8"))
    hosts = {
        "shop1": {"lifeboat_stack": "shop", "ansible_host": "10.0.0.1", "monitoring_agent_listen": "0.0.0.0:9111"},
        "wiki1": {"lifeboat_stack": "wiki", "monitoring_server_endpoints": [SITE]},
        "blog1": {
            "lifeboat_stack": "blog", "lifeboat_keeper": {"host": "keeper1"}, "vault_keeper_textfile_directory": "/x",
        },
        "mail1": {"lifeboat_stack": "mail", "lifeboat_keeper": {"host": "keeper1"}},
    }  # fmt: skip
    keeper = {"keeper1": {"ansible_host": "10.0.0.9"}}
    given = {"groups": {"lifeboat_stacks": list(hosts)}, "hostvars": {**hosts, **keeper}}
    found = render(play["roles"][0]["vars"]["monitoring_server_stacks"], given)
    assert found == [
        {"stack": "shop", "address": "10.0.0.1:9111"},
        {"stack": "wiki", "address": "wiki1:9100", "endpoints": [SITE]},
        {"stack": "blog", "address": "blog1:9100", "keeper": "10.0.0.9:9100"},
        {"stack": "mail", "address": "mail1:9100"},
    ]
    assert server(without(monitoring_server_stacks=found)) == []
    assert render(play["roles"][0]["vars"]["monitoring_server_stacks"], {"groups": {}, "hostvars": {}}) == []


def agent(**changes: Any) -> list[str]:
    return refusals("monitoring_agent", {**AGENT, **changes})


def test_the_agent_refuses() -> None:
    assert agent() == []
    assert "needs lifeboat_stack and lifeboat_monitoring.textfile_directory" in agent(lifeboat_monitoring={})[0]
    assert '(it is "textfiles")' in agent(lifeboat_monitoring={"textfile_directory": "textfiles"})[0]
    assert len(agent(lifeboat_monitoring={"textfile_directory": "/x $(id)"})) == 1
    assert len(agent(lifeboat_stack="")) == 1
    assert "beyond loopback" in agent(monitoring_agent_listen=":9100")[0]
    assert "beyond loopback" in agent(monitoring_agent_listen="127.0.0.1.example:9100")[0]
    guard = {f"monitoring_agent_{name}": value for name, value in GUARD.items()}
    assert agent(monitoring_agent_listen=":9100", **guard) == []
    assert len(agent(monitoring_agent_listen=":9100", **{**guard, "monitoring_agent_users": {}})) == 1


def test_the_agents_jobs_are_bounded_and_removed_where_it_is_off() -> None:
    jobs = schedule.read(
        render(load("monitoring_agent/vars/main.yml")["__monitoring_agent_jobs"], variables("monitoring_agent", AGENT))
    )
    assert [(job.crontab_line, job.enabled) for job in jobs] == [
        ("* * * * * root timeout 50 lifeboat metrics --stack shop >/dev/null 2>&1", True),
        ("7 * * * * root timeout 3000 lifeboat metrics --ask --stack shop >/dev/null 2>&1", True),
    ]
    off = variables("monitoring_agent", {**AGENT, "monitoring_agent_enabled": "false"})
    assert [job.enabled for job in schedule.read(render(off["__monitoring_agent_jobs"], off))] == [False, False]


def test_the_agents_exporter_is_guarded_where_it_is_open() -> None:
    guard = {f"monitoring_agent_{name}": value for name, value in GUARD.items()}
    plain = written("monitoring_agent", "node-exporter.j2", AGENT)
    arguments = "--web.listen-address=127.0.0.1:9100 --collector.textfile.directory=/var/lib/prometheus/node-exporter"
    assert plain.splitlines()[1] == f'ARGS="{arguments}"'
    open_ = {**AGENT, **guard, "monitoring_agent_listen": ":9100"}
    assert "--web.config.file=/etc/prometheus/node-exporter-web.yml" in written(
        "monitoring_agent", "node-exporter.j2", open_
    )
    web = yaml.safe_load(written("monitoring_agent", "web.yml.j2", open_))
    assert web["basic_auth_users"] == GUARD["users"] and web["tls_server_config"]["cert_file"] == GUARD["certificate"]


@pytest.mark.slow
def test_promtool_accepts_what_prometheus_is_told(tmp_path: Path) -> None:
    program = debian.required("promtool")
    text = written("monitoring_server", "prometheus.yml.j2", SERVER).replace("/etc/prometheus/rules", str(tmp_path))
    for name in ("scrape_password", "our-ca.pem"):
        (tmp_path / name).write_text("")
    text = text.replace("/etc/prometheus/lifeboat", str(tmp_path)).replace("/etc/ssl", str(tmp_path))
    (tmp_path / "lifeboat.yml").write_text((ROOT / "monitoring/rules/lifeboat.yml").read_text(encoding="utf-8"))
    (tmp_path / "stacks.yml").write_text(written("monitoring_server", "stacks.yml.j2", SERVER))
    (tmp_path / "prometheus.yml").write_text(text)
    words = [program, "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ["monitoring_agent", "monitoring_server"])
def test_a_dry_run_on_a_fresh_host_needs_nothing_that_is_not_installed(role: str) -> None:
    """The service, the group of the package and the programs that check a file come with the packages."""
    tasks = [
        task for path in (ROOT / "roles" / role / "tasks").glob("*.yml") for task in load(f"{role}/tasks/{path.name}")
    ]
    handlers = load(f"{role}/handlers/main.yml")
    seen = 0
    for task in [*handlers, *tasks]:
        arguments = next(
            value for key, value in task.items() if key.startswith("ansible.builtin.") or "lifeboat.dr" in key
        )
        if not isinstance(arguments, dict):
            continue
        service = arguments.get("name", "")
        needs = "validate" in arguments or arguments.get("group") == "prometheus" or "prometheus" in str(service)
        if needs and "ansible.builtin.apt" not in task and task["name"] != "look | Start them, and with the host":
            assert "not ansible_check_mode" in str(task.get("when")), task["name"]
            seen += 1
    assert seen >= 3
    if role == "monitoring_server":
        (look,) = [task for task in load(f"{role}/tasks/main.yml") if "look.yml" in str(task)]
        assert look["when"] == "not ansible_check_mode"


@pytest.mark.parametrize(
    ("role", "paths"), [("monitoring_agent", ["exporter"]), ("monitoring_server", ["listen", "packages"])]
)
def test_nothing_listens_to_everybody_in_between(role: str, paths: list[str]) -> None:
    """Debian's packages start what they install at once, on every address; dpkg keeps a file that is there."""
    tasks = [task for path in paths for task in load(f"{role}/tasks/{path}.yml")]
    written_at = [at for at, task in enumerate(tasks) if "/etc/default/" in str(task)]
    installed = [(at, task["ansible.builtin.apt"]) for at, task in enumerate(tasks) if "ansible.builtin.apt" in task]
    assert written_at and max(written_at) < min(at for at, _package in installed)
    assert {package["dpkg_options"] for _at, package in installed} == {"force-confdef,force-confold"}
    if role == "monitoring_server":
        order = [task["ansible.builtin.import_tasks"] for task in load(f"{role}/tasks/main.yml")[:4]]
        assert order == ["check.yml", "listen.yml", "packages.yml", "secrets.yml"]
        assert len(written_at) == 3


@pytest.mark.parametrize(("role", "path"), [("monitoring_agent", "exporter"), ("monitoring_server", "prometheus")])
def test_a_key_that_the_service_cannot_read_is_said(role: str, path: str) -> None:
    """systemd says that it started; it ends a moment later. /etc/ssl/private is closed to the user of the service."""
    tried, refused = (task for task in load(f"{role}/tasks/{path}.yml") if "_readable" in str(task))
    assert tried["ansible.builtin.command"]["argv"][:6] == ["runuser", "-u", "prometheus", "--", "test", "-r"]
    assert tried["loop"] == ["{{ " + role + "_certificate }}", "{{ " + role + "_key }}"]
    answers = [{"rc": 0, "item": "/a.pem"}, {"rc": 1, "item": "/a.key"}]
    for tries, whether in (({"results": answers}, False), ({"results": answers[:1]}, True), ({"skipped": True}, True)):
        known = {**variables(role, {}), f"__{role}_readable": tries}
        known |= {name: render(value, known) for name, value in refused["vars"].items()}
        wanted = refused["ansible.builtin.assert"]
        assert render("{{ " + wanted["that"] + " }}", known) is whether
        if not whether:
            assert "cannot read /a.key." in render(wanted["fail_msg"], known)


def test_the_directory_of_the_exporters_settings_is_made_first() -> None:
    """Debian's prometheus-node-exporter brings none."""
    tasks = load("monitoring_agent/tasks/exporter.yml")
    made = [at for at, task in enumerate(tasks) if task.get("ansible.builtin.file", {}).get("state") == "directory"]
    written_at = [at for at, task in enumerate(tasks) if "web.yml.j2" in str(task)]
    assert made and made[0] < written_at[0]
    path = tasks[made[0]]["ansible.builtin.file"]["path"]
    assert render(path, variables("monitoring_agent", {})) == "/etc/prometheus"


def rules(**given: Any) -> dict[str, Any]:
    """The rules that the role writes, by the names of their alerts."""
    (task,) = [task for task in load("monitoring_server/tasks/prometheus.yml") if "Write the alerts" in task["name"]]
    text = render(task["ansible.builtin.copy"]["content"], variables("monitoring_server", without(**given)))
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def test_an_alert_waits_as_long_as_the_inventory_says() -> None:
    assert rules() == RULES
    made = rules(monitoring_server_patience={"LifeboatMetricsOld": "30m", "LifeboatDutyOverdue": "2h"})
    assert made.keys() == RULES.keys()
    changed = {name: rule["for"] for name, rule in made.items() if rule.get("for") != RULES[name].get("for")}
    assert changed == {"LifeboatMetricsOld": "30m", "LifeboatDutyOverdue": "2h"}
    assert all(rule["expr"] == RULES[name]["expr"] for name, rule in made.items())
    assert "patience" not in "".join(server(without(monitoring_server_patience=dict.fromkeys(changed, "1m"))))


@pytest.mark.parametrize(("interval", "timeout"), [("30s", "10s"), ("1m", "10s"), ("2s", "2s"), ("10s", "10s")])
def test_prometheus_waits_no_longer_for_an_answer_than_until_it_asks_again(interval: str, timeout: str) -> None:
    """It refuses to start otherwise."""
    made = yaml.safe_load(
        written("monitoring_server", "prometheus.yml.j2", without(monitoring_server_interval=interval))
    )
    assert made["global"] == {
        "scrape_interval": interval, "scrape_timeout": timeout, "evaluation_interval": interval,
    }  # fmt: skip
    (listen,) = [task for task in load("monitoring_server/tasks/listen.yml") if "Prometheus listens" in task["name"]]
    known = variables("monitoring_server", without(monitoring_server_interval=interval))
    arguments = render(listen["vars"]["__monitoring_server_arguments"], known)
    assert f" --rules.alert.resend-delay={interval}" in arguments


def test_the_switch_is_told_as_often_as_the_inventory_says() -> None:
    for given, group in (("5m", "1m"), ("5s", "1s"), ("1h", "1m")):
        made = yaml.safe_load(
            written(
                "monitoring_server", "alertmanager.yml.j2", without(monitoring_server_watchdog_interval=given),
            )
        )  # fmt: skip
        way = made["route"]["routes"][0]
        assert (way["receiver"], way["repeat_interval"], way["group_interval"]) == ("watchdog", given, group)


@pytest.mark.parametrize(
    ("role", "path", "unit"),
    [("monitoring_agent", "exporter", "prometheus-node-exporter"), ("monitoring_server", "look", "prometheus")],
)
def test_a_service_that_its_package_started_too_early_may_start_again(role: str, path: str, unit: str) -> None:
    """Without its settings it fails five times within a second; systemd then refuses to start it for ten."""
    tasks = load(f"{role}/tasks/{path}.yml")
    reset = [at for at, task in enumerate(tasks) if "reset-failed" in str(task)]
    started = [at for at, task in enumerate(tasks) if "ansible.builtin.service" in task]
    assert len(reset) == 1 and reset[0] < min(started)
    task = tasks[reset[0]]
    assert task["ansible.builtin.command"]["argv"] == ["systemctl", "reset-failed", unit]
    assert (task["changed_when"], task["failed_when"]) == (False, False)


@pytest.mark.parametrize("address", ["https://wiki.shop.test/lifeboat/", "https://wiki.shop.test/lifeboat"])
def test_an_alert_has_a_link_where_the_inventory_has_an_address(address: str) -> None:
    made = rules(monitoring_server_runbooks=address)
    assert made.keys() == RULES.keys()
    for name, rule in made.items():
        link = f"https://wiki.shop.test/lifeboat/docs/alerts.md#{name.lower()}"
        assert rule["annotations"] == {**RULES[name]["annotations"], "runbook_url": link}


def test_without_an_address_an_alert_has_the_command_alone() -> None:
    assert load("monitoring_server/defaults/main.yml")["monitoring_server_runbooks"] == ""
    for name, rule in rules().items():
        assert "runbook_url" not in rule["annotations"]
        assert rule["annotations"]["runbook"].startswith(f"lifeboat explain {name}")
