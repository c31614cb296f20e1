# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for Grafana and OpenSearch, which neither has ever run: what can be known of them by reading."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
GRAFANA = MONITORING / "grafana"
SOURCES, PROVIDERS = "provisioning/datasources/lifeboat.yml", "provisioning/dashboards/lifeboat.yml"
# Of https://grafana.com/docs/grafana/latest/administration/provisioning/: the keys of a data source and of a provider.
SOURCE_KEYS = {
    "name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser",
    "withCredentials", "isDefault", "jsonData", "secureJsonData", "version", "editable",
}  # fmt: skip
PROMETHEUS_KEYS = {"httpMethod", "timeInterval", "queryTimeout", "manageAlerts", "prometheusType", "prometheusVersion"}
PROVIDER_KEYS = {
    "name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates",
    "options",
}  # fmt: skip
SERVICE_KEYS = {"image", "network_mode", "restart", "environment", "secrets", "volumes", "ports", "depends_on"}


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def unknown_keys(kind: str, document: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a provisioning file that Grafana's documentation does not have."""
    lists = {"datasources": SOURCE_KEYS, "providers": PROVIDER_KEYS}
    yield from document.keys() - {"apiVersion", kind}
    for entry in document[kind]:
        yield from entry.keys() - lists[kind]
        yield from entry.get("jsonData", {}).keys() - PROMETHEUS_KEYS
        yield from entry.get("options", {}).keys() - {"path", "foldersFromFilesStructure"}


@pytest.mark.parametrize(("kind", "path"), [("datasources", SOURCES), ("providers", PROVIDERS)])
def test_each_key_is_one_that_grafana_documents(kind: str, path: str) -> None:
    document = load(GRAFANA / path)
    assert document["apiVersion"] == 1
    assert list(unknown_keys(kind, document)) == []
    document[kind][0]["updateIntervalSecond"] = 10  # as it stands in a public repository
    assert list(unknown_keys(kind, document)) == ["updateIntervalSecond"]


def test_the_data_source_is_of_the_kind_that_the_dashboards_ask_for() -> None:
    (source,) = load(GRAFANA / SOURCES)["datasources"]
    boards = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((MONITORING / "dashboards").glob("*.json"))
    ]
    wanted = {
        variable["query"]
        for board in boards
        for variable in board["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert wanted == {source["type"]} == {"prometheus"}
    assert source["isDefault"], "a variable that nobody set takes the default"


def test_what_is_mounted_is_here_and_where_grafana_looks_for_it() -> None:
    service = load(GRAFANA / "compose.yml")["services"]["grafana"]
    mounts = [volume.split(":") for volume in service["volumes"]]
    folders = {target: GRAFANA / source for source, target, *_mode in mounts if source.startswith(".")}
    assert all(folder.is_dir() for folder in folders.values()), folders
    assert all(mode == ["ro"] for source, _target, *mode in mounts if source.startswith("."))
    (provider,) = load(GRAFANA / PROVIDERS)["providers"]
    assert len(list(folders[provider["options"]["path"]].glob("*.json"))) == 3
    provisioning = folders["/etc/grafana/provisioning"]  # as Grafana's image is configured
    assert all((provisioning / Path(path).relative_to("provisioning")).is_file() for path in (SOURCES, PROVIDERS))


def test_every_variable_of_the_provisioning_is_given_by_the_compose_file() -> None:
    given = load(GRAFANA / "compose.yml")["services"]["grafana"]["environment"]
    texts = [(GRAFANA / path).read_text(encoding="utf-8") for path in (SOURCES, PROVIDERS)]
    named = {name for text in texts for name in re.findall(r"\$\{?(\w+)", re.sub(r"#.*", "", text))}
    assert named == {"LIFEBOAT_PROMETHEUS"} and named <= given.keys()


FILES = [MONITORING / "grafana/compose.yml", MONITORING / "opensearch/compose.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_nothing_listens_beyond_loopback_and_no_image_is_guessed(path: Path) -> None:
    document = load(path)
    assert document.keys() <= {"name", "services", "volumes", "secrets"}
    for name, service in document["services"].items():
        assert service.keys() <= SERVICE_KEYS, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if service.get("network_mode") == "host":
            assert service["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
        assert re.fullmatch(r"\$\{\w+_IMAGE:\?[^}]*digest[^}]*\}", service["image"]), name
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {volume for volume in volumes if not volume.startswith(".")} <= document["volumes"].keys()
        assert set(service.get("secrets", ())) <= document.get("secrets", {}).keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_what_was_never_run_says_so(path: Path) -> None:
    assert "Never run" in path.read_text(encoding="utf-8")
    english, japanese = (ROOT / page / "monitoring.md" for page in ("docs", "docs/ja"))
    assert english.read_text(encoding="utf-8").count("**Never run**") == len(FILES)
    assert japanese.read_text(encoding="utf-8").count("**実行したことはありません**") == len(FILES)


def test_the_password_is_nowhere_but_in_its_file() -> None:
    service = load(GRAFANA / "compose.yml")["services"]["grafana"]
    assert [name for name in service["environment"] if "PASSWORD" in name] == ["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert load(GRAFANA / "compose.yml")["secrets"] == {"admin_password": {"file": "./admin_password"}}
    assert "monitoring/grafana/admin_password" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
