# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a running Compose project: what other people's projects say, and what of it is never written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import certificates, discover
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.discover import Draft, Project
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from ansible_collections.lifeboat.dr.plugins.plugin_utils import inventory
from builders import Run
from test_awx import render

HIDDEN = "hunter2-never-written"


def volume(source: str, target: str, kind: str = "volume") -> dict[str, Any]:
    return {"type": kind, "source": source, "target": target}


def port(target: int, published: str = "") -> dict[str, Any]:
    return {"mode": "ingress", "target": target, "published": published, "protocol": "tcp"}


# As `docker compose config --format json` writes them: names of keys and shapes are Compose's.
SHOP: dict[str, Any] = {
    "name": "shop",
    "services": {
        "db": {
            "image": "postgres:17-alpine",
            "environment": {"POSTGRES_DB": "shop", "POSTGRES_USER": "app", "POSTGRES_PASSWORD": HIDDEN},
            "volumes": [volume("data", "/var/lib/postgresql/data")],
        },
        "web": {
            "image": "registry.example.org:5000/shop/web@sha256:00",
            "environment": {"DATABASE_URL": f"postgres://app:{HIDDEN}@db/shop", "S3_BUCKET": "uploads"},
            "depends_on": {"db": {"condition": "service_healthy", "required": True}},
            "healthcheck": {"test": ["CMD-SHELL", "curl -fsS http://localhost:8000/health?x=1 || exit 1"]},
            "ports": [port(8000, "18000")],
        },
        "minio": {
            "image": "quay.io/minio/minio:RELEASE.2025-01-20",
            "environment": {"MINIO_ROOT_USER": "root-user-1", "MINIO_ROOT_PASSWORD": HIDDEN},
            "ports": [port(9000, "9000"), port(9001, "9001")],
            "volumes": [volume("objects", "/data")],
        },
    },
}
# A wiki: names from secret files, no health check, uploads in a volume, a cache.
WIKI: dict[str, Any] = {
    "name": "wiki",
    "services": {
        "postgres": {
            "image": "postgis/postgis:16-3.4",
            "environment": {
                "POSTGRES_DB": "wiki", "POSTGRES_USER_FILE": "/run/secrets/db_user",
                "POSTGRES_PASSWORD_FILE": "/run/secrets/db_password",
            },
            "secrets": [{"source": "db_user"}, {"source": "db_password"}],
            "volumes": [volume("/srv/wiki/pg", "/var/lib/postgresql/data", "bind")],
        },
        "wiki": {
            "build": {"context": "/srv/wiki"},
            "depends_on": {"postgres": {"condition": "service_started"}},
            "ports": [port(3000, "3000")],
            "volumes": [volume("uploads", "/app/uploads")],
        },
        "redis": {"image": "redis:7", "volumes": [volume("cache", "/data")], "command": None},
    },
    "secrets": {
        "db_user": {"name": "wiki_db_user", "file": "/srv/wiki/secrets/user"},
        "db_password": {"name": "wiki_db_password", "file": "/srv/wiki/secrets/password"},
    },
}  # fmt: skip
# Bitnami's image, a bucket at a provider, two of them named, nobody depends on anything.
LEDGER: dict[str, Any] = {
    "name": "ledger",
    "services": {
        "postgresql": {
            "image": "docker.io/bitnami/postgresql:16",
            "environment": {"POSTGRESQL_DATABASE": "{{ ledger }}", "POSTGRESQL_PASSWORD": HIDDEN},
            "volumes": [volume("pg", "/bitnami/postgresql")],
        },
        "api": {
            "image": "ledger/api",
            "network_mode": "host",
            "environment": {
                "AWS_ENDPOINT_URL_S3": "https://s3.example.org/?token=" + HIDDEN, "AWS_SECRET_ACCESS_KEY": HIDDEN,
                "MEDIA_BUCKET": "media", "EXPORT_BUCKET_NAME": "exports",
            },
            "healthcheck": {"test": ["CMD", "wget", "-q", "http://127.0.0.1:8080/"]},
        },
        "exporter": {"image": "prometheuscommunity/postgres-exporter", "environment": {"DATA_SOURCE_PASS": HIDDEN}},
    },
}  # fmt: skip
# No PostgreSQL at all.
BLOG: dict[str, Any] = {
    "name": "blog",
    "services": {"db": {"image": "mariadb:11", "volumes": [volume("db", "/var/lib/mysql")]}},
}


def drafted(project: dict[str, Any], secret: tuple[str, ...] = (), text: str = "wiki_owner\n") -> Draft:
    def wrong(at: str, cause: str) -> LifeboatError:
        return LifeboatError("read", at, cause)

    found = typed.build(Project, without_nulls(project), wrong, unknown="ignore")
    name = project["name"]
    return discover.draft(found, name, {"project_directory": f"/srv/{name}"}, secret, read=lambda path: text)


def without_nulls(value: Any) -> Any:
    """As the runtime reads what Compose says."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@pytest.mark.parametrize("project", [SHOP, WIKI, LEDGER, BLOG], ids=lambda project: str(project["name"]))
def test_no_secret_is_written_and_what_is_written_can_be_deployed(project: dict[str, Any]) -> None:
    draft = drafted(project, ("/srv/x/.env",), text=HIDDEN if project is SHOP else "owner")
    assert HIDDEN not in inventory.text(draft) + json.dumps(typed.plain(draft))
    assert "root-user-1" not in inventory.text(draft)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))  # type: ignore[no-untyped-call]
    written = yaml.load(inventory.text(draft), Loader)  # noqa: S506 - a safe one
    assert written == {"lifeboat_stack": draft.stack, **draft.variables}
    settings = {name.removeprefix("lifeboat_"): value for name, value in written.items()}
    config.from_mapping(settings)
    # With the comment signs removed and a recipient given it still is one.
    later = {name.removeprefix("lifeboat_"): value for name, value in draft.later.items() if name != "lifeboat_config"}
    config.from_mapping({**settings, **later})


def test_a_shop_with_a_bucket() -> None:
    draft = drafted(SHOP, ("/srv/shop/.env",))
    assert draft.variables == {
        "lifeboat_runtime": {"project_directory": "/srv/shop"},
        "lifeboat_database": {"service": "db", "name": "shop", "user": "app"},
        "lifeboat_repository": {"type": "local", "path": "/backup/shop"},
        "lifeboat_application": {"checks": [{"url": "http://127.0.0.1:18000/health"}]},
    }
    assert draft.later["lifeboat_objects"] == {
        "service": "minio", "endpoint_url": "http://127.0.0.1:9000", "data_directory": "/data",
        "admin": {"api": "minio"}, "buckets": ["*"], "bucket": "uploads",
    }  # fmt: skip
    assert draft.unclear == ()
    assert [line.partition(":")[0] for line in draft.required] == [
        "lifeboat_vault", "lifeboat_secrets", "lifeboat_secrets.objects_admin_access_key, objects_admin_secret_key",
        "lifeboat_config.recipients", "lifeboat_repository",
    ]  # fmt: skip
    assert draft.required[2].endswith(": minio is given MINIO_ROOT_USER, MINIO_ROOT_PASSWORD")
    assert "/srv/shop/.env" in draft.required[3]
    assert "# lifeboat_vault:" in inventory.text(draft)


def certificate(directory: Path, *, issuer: str = "") -> Path:
    """What `openssl` makes; of an issuer of its own, or of another."""
    path, key = directory / "public.crt", directory / "private.key"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=minio"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(path)], check=True, capture_output=True)
    if issuer:
        ca = directory / "ca"
        ca.mkdir()
        certificate(ca)
        wanted = ["openssl", "req", "-new", "-key", str(key), "-subj", f"/CN={issuer}", "-out", str(directory / "csr")]
        subprocess.run(wanted, check=True, capture_output=True)
        sign = ["openssl", "x509", "-req", "-in", str(directory / "csr"), "-CA", str(ca / "public.crt"), "-CAkey",
                str(ca / "private.key"), "-CAcreateserial", "-days", "2", "-out", str(path)]  # fmt: skip
        subprocess.run(sign, check=True, capture_output=True)
    return path


@pytest.mark.parametrize("issuer", ["", "another"])
def test_a_store_with_a_certificate_of_its_own(tmp_path: Path, issuer: str) -> None:
    path = certificate(tmp_path, issuer=issuer)
    (tmp_path / "user").write_text(HIDDEN)
    minio = {
        "image": "minio/minio",
        "environment": {"MINIO_ROOT_USER_FILE": "/run/secrets/root_user", "MINIO_ROOT_PASSWORD": HIDDEN},
        "ports": [port(9000, "19000")],
        "volumes": [
            volume(str(tmp_path), "/root/.minio/certs", "bind"),
            {**volume("config", "/etc/minio"), "read_only": True},
            volume("objects", "/bitnami/minio/data"),
        ],
    }
    web = {
        **SHOP["services"]["web"],
        "environment": {"AWS_ACCESS_KEY_ID": "app-key-1", "AWS_SECRET_ACCESS_KEY": HIDDEN},
    }
    services = {**SHOP["services"], "minio": minio, "web": web}
    minio["environment"]["MINIO_DEFAULT_BUCKETS"] = "uploads:public"
    project = {"name": "shop", "services": services, "secrets": {"root_user": {"file": str(tmp_path / "user")}}}
    found = typed.build(Project, project, lambda at, why: LifeboatError("read", at, why), unknown="ignore")
    draft = discover.draft(found, "shop", {"project_directory": "/srv/shop"})
    objects = draft.later["lifeboat_objects"]
    assert (objects["endpoint_url"], objects["data_directory"]) == ("https://127.0.0.1:19000", "/bitnami/minio/data")
    assert (objects.get("ca_bundle"), objects["bucket"]) == (None if issuer else str(path), "uploads")
    assert any("name that its certificate names" in line for line in draft.unclear)
    assert any(line.startswith("lifeboat_objects.ca_bundle") for line in draft.unclear) is bool(issuer)
    assert HIDDEN not in inventory.text(draft) and "app-key-1" not in inventory.text(draft)
    said = "\n".join(draft.required)
    assert f"minio is given MINIO_ROOT_USER_FILE (the file {tmp_path / 'user'}), MINIO_ROOT_PASSWORD" in said
    assert "objects_secret_key: web is given AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in said


# The names under which Directus, Nextcloud, n8n, Gitea and others are given the keys of a store.
KEYS = {
    "STORAGE_S3_KEY": True, "STORAGE_S3_SECRET": True, "OBJECTSTORE_S3_KEY_FILE": True, "S3_KEY_ID": True,
    "N8N_EXTERNAL_STORAGE_S3_ACCESS_KEY": True, "N8N_EXTERNAL_STORAGE_S3_ACCESS_SECRET": True, "AWS_SECRET": True,
    "GITEA__storage__MINIO_ACCESS_KEY_ID": True, "S3_PRIVATE_SECRET_KEY": True, "AWS_SECRET_ACCESS_KEY_FILE": True,
    "S3_KEY_PREFIX": False, "AWS_KMS_KEY_ID": False, "S3_SSE_KEY": False, "STORAGE_S3_BUCKET": False,
    "S3_SECRETS": False, "SECRET": False, "KEY": False,
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_known_by_the_names_that_applications_give_it(name: str) -> None:
    environment = {name: HIDDEN} if KEYS[name] else {name: HIDDEN, "S3_ACCESS_KEY": HIDDEN}
    web = {**SHOP["services"]["web"], "environment": environment}
    store = {"image": "minio/minio", "environment": {}, "ports": [port(9000, "19000")]}
    project = {"name": "shop", "services": {**SHOP["services"], "minio": store, "web": web}}
    found = typed.build(Project, project, lambda at, why: LifeboatError("read", at, why), unknown="ignore")
    draft = discover.draft(found, "shop", {"project_directory": "/srv/shop"})
    (line,) = [line for line in draft.required if "web is given" in line]
    assert line.endswith(f"web is given {name if KEYS[name] else 'S3_ACCESS_KEY'}")


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"])  # fmt: skip
def test_what_is_no_certificate(text: str) -> None:
    with pytest.raises(ValueError):
        certificates.self_signed(text)


def test_names_from_files_and_data_that_no_backup_contains() -> None:
    draft = drafted(WIKI)
    assert draft.variables["lifeboat_database"] == {"service": "postgres", "name": "wiki", "user": "wiki_owner"}
    assert draft.later == {}
    assert "wiki publishes a port" in "\n".join(draft.unclear)


def test_each_mount_of_the_project_that_no_backup_holds_is_in_the_draft_by_its_name(
    run: Run, docker: Docker, tmp_path: Path
) -> None:
    """Volumes with and without a name, and the directories that are mounted, too."""
    docker.project, docker.listed[0]["Name"] = WIKI, "wiki"
    found = run("stack_info", plain=True)
    assert found["failed"] is False, found.get("msg")
    said = "\n".join(found["unclear"])
    for words in ("the volume uploads (wiki:/app/uploads) is in no backup", "redis:/data"):
        assert words in said
    names = [entry["name"] for entry in found["later"]["lifeboat_mounts"]["exclude"]]
    assert "uploads" in names
    assert not [line for line in found["unclear"] if "postgres:/var" in line], "the database's own is protected"
    written = inventory.text(inventory.draft_of(found))
    assert '# lifeboat_mounts:\n#   exclude:\n#   - name: "' in written
    assert "\nlifeboat_mounts" not in written, "to exclude is the operator's choice"


def test_a_file_that_cannot_be_read_is_said() -> None:
    project = {**WIKI, "secrets": {}}
    assert "lifeboat_database.user: it comes from a file that could not be read" in drafted(project).unclear


def test_another_image_and_a_provider_of_buckets() -> None:
    draft = drafted(LEDGER)
    assert draft.variables["lifeboat_database"] == {"service": "postgresql", "name": "{{ ledger }}"}
    assert 'name: !unsafe "{{ ledger }}"' in inventory.text(draft)
    assert draft.variables["lifeboat_application"] == {"checks": [{"url": "http://127.0.0.1:8080/"}]}
    assert draft.later["lifeboat_objects"]["endpoint_url"] == "https://s3.example.org/"
    said = "\n".join(draft.unclear)
    assert "lifeboat_objects.bucket: exports, media; name the one to protect" in said
    assert "no service depends on postgresql" in said
    assert any(line.startswith("lifeboat_secrets.database_password") for line in draft.required)


def test_a_project_without_postgresql_says_so() -> None:
    draft = drafted(BLOG)
    assert draft.variables["lifeboat_database"] is False
    assert "\nlifeboat_database: false\n" in inventory.text(draft)
    assert "no service was recognised as PostgreSQL" in draft.unclear[0]
    mount = StateMount("db", "volume", ("db:/var/lib/mysql",), "unprotected", "no component", servers=("MariaDB",))
    kept = StateMount("data", "volume", ("x:/data",), "protected", "why", by="database")
    files = StateMount("media", "volume", ("web:/srv/media",), "unprotected", "no component")
    named = discover.with_state(draft, StateInventory((mount, files, kept), ("no engine",)))
    assert named.variables["lifeboat_dumps"] == {"sources": [{"name": "db", "service": "db", "preset": "mariadb"}]}
    assert "the volume media (web:/srv/media) is in no backup: no component" in named.unclear
    assert "mounts: no engine" in named.unclear
    assert named.later["lifeboat_mounts"] == {"exclude": [{"name": "media", "reason": "..."}]}
    again = inventory.draft_of(typed.plain(named))
    assert again == named
    text = inventory.text(again)
    assert '#   - name: "media"\n#     reason: "..."\n' in text
    assert yaml.safe_load(text)["lifeboat_dumps"] == {"sources": [{"name": "db", "service": "db", "preset": "mariadb"}]}
    bare = discover.with_state(draft, StateInventory((kept,)))
    assert "lifeboat_mounts" not in bare.later
    assert "lifeboat_dumps" not in bare.variables


SERVERS: list[tuple[tuple[str, ...], str, str, str]] = [
    (("MariaDB",), "/var/lib/mysql", "mysql", "mariadb"),
    (("MySQL",), "/var/lib/mysql", "mariadb", "mysql"),
    (("MySQL or MariaDB",), "/var/lib/mysql", "mysql", "mysql"),
    (("MySQL or MariaDB",), "/var/lib/mysql", "mariadb", "mariadb"),
    (("Redis or Valkey",), "/data", "valkey", "valkey"),
    (("Redis or Valkey",), "/data", "redis", "redis"),
    (("MongoDB",), "/data/db", "mongo", "mongodb"),
    (("MariaDB",), "/bitnami/mariadb", "mariadb", "mariadb"),
    (("SQLite in app.db",), "/data", "web", ""),
    (("MariaDB in old",), "/data", "mariadb", ""),
    (("MariaDB", "SQLite in app.db"), "/var/lib/mysql", "mariadb", ""),
    ((), "/var/lib/mysql", "mariadb", ""),
]


@pytest.mark.parametrize(("servers", "target", "image", "preset"), SERVERS)
def test_a_server_is_known_by_its_data_and_the_image_tells_two_alike_apart(
    servers: tuple[str, ...], target: str, image: str, preset: str
) -> None:
    mount = StateMount("v", "volume", (f"My.Server:{target}",), "unprotected", "no component", servers=servers)
    made = discover.with_state(drafted(BLOG), StateInventory((mount,)), {"My.Server": image})
    place = {"data": target} if target.startswith("/bitnami") else {}
    source = {"name": "my-server", "service": "My.Server", "preset": preset, **place}
    assert made.variables.get("lifeboat_dumps", {}).get("sources", []) == ([source] if preset else [])
    assert ("lifeboat_mounts" in made.later) != bool(preset)
    if preset:
        given = {"stack": "x", "runtime": {"project": "x"}, "dumps": made.variables["lifeboat_dumps"]}
        assert config.from_mapping(given).dumps.sources[0].data_path == target


class Docker:
    """What the host's docker answers."""

    def __init__(self, listed: list[dict[str, str]], directory: Path, project: dict[str, Any]) -> None:
        self.listed, self.directory, self.project = listed, directory, project

    def output(self, command: Command, **_: Any) -> str:
        if command.argv[:3] == ["docker", "compose", "ls"]:
            return json.dumps(self.listed)
        if "config" not in command.argv:  # no container and no volume is there
            return "[]" if "inspect" in command.argv else ""
        return json.dumps(self.project)

    def probe(self, command: Command, **_: Any) -> tuple[int, str, str]:
        return 0, f"{self.directory}\n" if "working_dir" in " ".join(command.argv) else "", ""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    (tmp_path / ".env").write_text(f"PASSWORD={HIDDEN}\n")
    (tmp_path / "prod.yml").write_text("services: {}\n")
    listed = [{"Name": "shop", "Status": "running(3)", "ConfigFiles": str(tmp_path / "prod.yml")}]
    found = Docker(listed, tmp_path, SHOP)
    monkeypatch.setattr(discover.pipeline, "output", found.output)
    monkeypatch.setattr(discover.pipeline, "probe", found.probe)
    return found


def test_stack_info_never_changes(run: Run, docker: Docker, tmp_path: Path) -> None:
    for check in (True, False):
        found = run("stack_info", check=check, plain=True)
        assert (found["failed"], found["changed"], found["stack"]) == (False, False, "shop")
        runtime = {"project_directory": str(tmp_path), "files": ["prod.yml"], "project": "shop"}
        assert found["variables"]["lifeboat_runtime"] == runtime
        assert str(tmp_path / ".env") in inventory.text(inventory.draft_of(found))
        assert HIDDEN not in json.dumps(found)


@pytest.mark.parametrize(
    ("names", "asked", "words"),
    [([], "", "there is none"), (["shop", "wiki"], "", "there is shop, wiki"), (["shop"], "wiki", "there is shop")],
)
def test_stack_info_fails(run: Run, docker: Docker, names: list[str], asked: str, words: str) -> None:
    docker.listed = [{"Name": name, "ConfigFiles": f"/srv/{name}/compose.yml"} for name in names]
    found = run("stack_info", plain=True, project=asked)
    assert found["failed"]
    assert words in found["msg"]


def test_the_playbook_keeps_a_file_that_is_there() -> None:
    root = Path(__file__).resolve().parents[2]
    (play,) = yaml.safe_load((root / "playbooks/init.yml").read_text(encoding="utf-8"))
    (written,) = (task for task in play["tasks"] if "ansible.builtin.copy" in task)
    assert written["ansible.builtin.copy"]["force"] == (
        "{{ lookup('lifeboat.dr.answer', 'confirm', default='') == inventory_hostname }}"
    )
    assert written["delegate_to"] == "localhost"


def test_what_is_left_to_do_is_no_failure_to_understand() -> None:
    """`could not be interpreted: the volume x … no backup contains it` was said of what an operator decides."""
    root = Path(__file__).resolve().parents[2]
    (play,) = yaml.safe_load((root / "playbooks/init.yml").read_text(encoding="utf-8"))
    (left,) = (task["vars"]["__left"] for task in play["tasks"] if "__left" in task.get("vars", {}))
    inspected = {"unclear": ["the volume x is in no backup"], "wanted": ["a password"]}
    told = render(left, {"__inspected": inspected})
    assert told == ["to check: the volume x is in no backup", "to be provided: a password"]


# What YAML, Jinja or a terminal reads as more than a text; what YAML reads as another type.
HOSTILE = (
    "a\u2028b: 1", "a\u2029b: 1", "a\x85b: 1", "a\r\nb: 1\n", "a\x1b[2Jb", "a\0b", "\ufeffa", "a\x7f\x9bb",
    "\\", '"', "'", "#", "a #b", "a: b", "- a", "!!python/name:os.system", "&a", "*a", "%YAML 1.1", "---", "...", "? a",
    "|", ">", "@", "`", "no", "On", "~", "null", "", " ", "0123", "0x10", "1_000", "12:30:00",
    "1.5", ".inf", "1e308", "-1", "2026-11-30", "<<", "=",
    "{{ 7*7 }}", "{% if 1 %}", "{# x #}", "#jinja2: variable_start_string:'[['\n[[ 7*7 ]]", "!unsafe x", "!vault |",
    "$ANSIBLE_VAULT;1.1;AES256", "\U0001f600", "x" * 4096,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_text_of_the_host_stays_that_text(tmp_path: Path, text: str) -> None:
    later = {"lifeboat_objects": {"bucket": text, "buckets": ["*"]}}
    variables = {"lifeboat_database": {"name": text}, "lifeboat_runtime": {"files": [text, "no"]}}
    written = inventory.text(Draft("shop", variables, later, (text,), (f"x {text}",)))
    assert written.isascii() and all(letter == "\n" or letter.isprintable() for letter in written)
    path = tmp_path / "shop.yml"
    path.write_text(written)
    found = DataLoader().load_from_file(str(path))
    assert found == {"lifeboat_stack": "shop", **variables}
    name = found["lifeboat_database"]["name"]
    assert isinstance(name, str) and str(Templar(DataLoader()).template(name)) == text
    path.write_text(
        "\n".join(line.removeprefix("# ") for line in written.split("# Complete these")[1].splitlines()[1:3])
    )
    assert DataLoader().load_from_file(str(path))["lifeboat_objects"]["bucket"] == text


ANSWER = {"stack": "shop", "variables": {"lifeboat_database": {"name": "a"}}, "later": {}, "unclear": [], "wanted": []}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"stack": "a: b"}, "stack is not the name of a stack"),
        ({"stack": 7}, "stack"),
        ({"variables": {"ansible_connection": {"a": "b"}}}, "has the key 'ansible_connection'"),
        ({"variables": {"lifeboat_database": {"a\u2028b": "x"}}}, "has the key"),
        ({"variables": {"lifeboat_database": {"name": {"a": "b"}}}}, "is not a text"),
        ({"variables": {"lifeboat_database": {"name": "x" * 4097}}}, "is not a text of at most"),
        ({"variables": {"lifeboat_database": {"name": "\udce9"}}}, "is not UTF-8"),
        ({"variables": {"lifeboat_database": "x"}}, "variables"),
        ({"variables": {"lifeboat_runtime": {"files": ["x"] * 201}}}, "is not a list of at most"),
        ({"later": {"lifeboat_objects": {"port": 1e308}}}, "is not a port"),
        ({"later": {"lifeboat_objects": {"port": -1}}}, "is not a port"),
        ({"later": {"lifeboat_config": {"recipients": ["age1attacker"]}}}, "is not 'age1...'"),
        ({"unclear": ["x" * 4097]}, "unclear is not a text of at most"),
        ({"wanted": ["x"] * 1001}, "wanted has more than"),
        ({"wanted": "x"}, "wanted"),
    ],
)
def test_what_is_no_answer_of_the_module_is_refused(changed: dict[str, Any], words: str) -> None:
    assert inventory.draft_of(ANSWER).stack == "shop"
    with pytest.raises(LifeboatError) as refused:
        inventory.draft_of({**ANSWER, **changed})
    assert words in str(refused.value) and "No file was written" in str(refused.value)


@pytest.mark.parametrize("project", [SHOP, WIKI, LEDGER, BLOG], ids=lambda project: str(project["name"]))
def test_every_draft_is_taken(project: dict[str, Any]) -> None:
    draft = drafted(project, ("/srv/x/.env",))
    assert inventory.draft_of(typed.plain(draft)) == inventory.draft_of(json.loads(json.dumps(typed.plain(draft))))
