"""Every artefact of a backup broken in every way, one at a time: each is found, and nothing of the stack is touched.

After pg_verifybackup's own tests: the intact backup passes first, or a finding would prove nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import Host, Stack

MUTATE = (Path(__file__).parent / "mutate.py").read_text(encoding="utf-8")
ROOM = "/var/tmp/corrupt"
DATABASE = "mutations"
ROWS = (
    "CREATE TABLE few AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 5000) g; SELECT lo_create(4711);"
)
MORE = "CREATE ROLE mutations_later; CREATE TABLE more (id int); INSERT INTO few VALUES (0, 'one more');"

BYTES = ("truncate 1 byte", "truncate half", "flip one bit", "empty", "swap with the older one", "delete")
FOUND = {
    "truncate 1 byte": r"has \d+ bytes instead of \d+",
    "truncate half": r"has \d+ bytes instead of \d+",
    "empty": r"has 0 bytes instead of \d+",
    "flip one bit": "has another SHA-256 than when it was written",
    "swap with the older one": r"has another SHA-256|bytes instead of",
    "delete": "is missing",
}
IN_MANIFEST = {
    "truncate 1 byte": "its bytes are not as they were written",
    "truncate half": "it is not a manifest",
    "empty": "it is not a manifest",
    "flip one bit": "it is not a manifest|it was edited|its schema is",
    "swap with the older one": "it is the manifest db_backup_",
    "delete": "manifest",
    "edit": "it was edited|a field is missing",
    "rename and reseal": "it is the manifest db_backup_",
}
# What a forger makes consistent again is found by what it restores to.
FORGED = {("data", "swap and reseal"): "tables|restore", ("fingerprint.json", "fewer rows and reseal"): "tables"}


@dataclass(frozen=True)
class Repository:
    """One repository on the host with two backups in it; the newer one is what is broken, in copies."""

    host: Host
    format: str
    older: str
    newer: str

    @property
    def path(self) -> str:
        return f"{ROOM}/{self.format}"

    def configure(self, name: str, repository: str) -> str:
        settings = {
            "stack": "shop",
            "runtime": {"project_directory": "/srv/shop"},
            "database": {"service": "db", "name": DATABASE, "format": self.format},
            "repository": {"type": "local", "path": repository},
            "state_directory": f"{ROOM}/state",
        }
        folder = f"{ROOM}/{name}"
        self.host.run("mkdir", "-p", folder, repository)
        self.host.run("sh", "-c", f"cat > {folder}/shop.json", stdin=json.dumps(settings))
        return folder

    def verify(self, configuration: str, level: str) -> tuple[int, dict[str, Any]]:
        return self.host.lifeboat("verify", self.newer, "--level", level, "--config-directory", configuration)

    def broken(self, target: str, mutation: str, level: str = "checksum") -> tuple[int, dict[str, Any], str]:
        copy = f"{ROOM}/copy"
        broken = self.host.python(MUTATE, self.path, copy, self.newer, self.older, target, mutation).strip()
        code, result = self.verify(self.configure("broken", copy), level)
        return code, result, broken


@pytest.fixture(scope="module")
def before(shop: Stack) -> Iterator[dict[str, Any]]:
    """The stack before, and the proof afterwards that it is the same."""
    shop.wait_until_well(60)
    world, databases = shop.host.world(), shop.databases()
    yield world
    shop.host.run("rm", "-rf", ROOM)
    assert shop.host.world() == world
    assert shop.databases() == databases


@pytest.fixture(
    scope="module", params=["directory", *(pytest.param(name, marks=pytest.mark.long) for name in ("custom", "plain"))]
)
def repository(request: pytest.FixtureRequest, shop: Stack, before: dict[str, Any]) -> Iterator[Repository]:
    """Two backups that differ in every artefact; the newer one passes at every level."""
    del before
    shop.sql(f"CREATE DATABASE {DATABASE};", database="template1")
    try:
        shop.sql(ROWS, database=DATABASE)
        made = Repository(shop.host, request.param, "", "")
        configuration = made.configure("intact", made.path)
        ids = []
        for sql in ("", MORE):
            if sql:
                shop.sql(sql, database=DATABASE)
            code, taken = shop.host.lifeboat("backup", "database", "--config-directory", configuration)
            assert code == 0, taken
            ids.append(taken["id"])
        made = Repository(shop.host, request.param, *ids)
        code, result = made.verify(configuration, "restore")
        assert (code, result["verdict"]) == (0, "PASS"), result
        yield made
    finally:
        shop.sql(f"DROP DATABASE {DATABASE} WITH (FORCE);", database="template1")
        shop.sql("DROP ROLE IF EXISTS mutations_later;", database="template1")


def targets(form: str) -> list[str]:
    return ["data", *(["toc.dat"] if form == "directory" else []), "globals.sql.gz", "fingerprint.json"]


@pytest.mark.parametrize("level", ["checksum", "archive", "restore"])
def test_the_intact_backup_passes(repository: Repository, level: str) -> None:
    code, result = repository.verify(f"{ROOM}/intact", level)
    assert (code, result["verdict"]) == (0, "PASS"), result
    assert {check["result"] for check in result["checks"]} == {"PASS"}


@pytest.mark.parametrize("mutation", BYTES)
def test_a_broken_artefact_is_found(repository: Repository, mutation: str) -> None:
    for target in targets(repository.format):
        code, result, name = repository.broken(target, mutation)
        assert (code, result["verdict"]) == (6, "FAIL"), (target, mutation, result)
        words = [check["detail"] for check in result["checks"] if check["name"] == "checksums"]
        assert re.search(FOUND[mutation], words[0]), (target, mutation, words)
        assert name in words[0], (target, mutation, words)


@pytest.mark.parametrize("mutation", sorted(IN_MANIFEST))
def test_a_broken_manifest_is_found(repository: Repository, mutation: str) -> None:
    code, result, _ = repository.broken("manifest.json", mutation)
    assert (code, result["verdict"]) == (6, "FAIL"), result
    assert re.search(IN_MANIFEST[mutation], str(result["checks"])), result


def test_a_file_too_many_is_found(repository: Repository) -> None:
    for target in targets(repository.format):
        code, result, _ = repository.broken(target, "add a file")
        assert (code, result["verdict"]) == (6, "FAIL"), result
        assert "stranger does not belong to the backup" in str(result["checks"])


@pytest.mark.parametrize(("target", "mutation"), sorted(FORGED))
def test_a_forgery_that_agrees_with_itself_is_found(repository: Repository, target: str, mutation: str) -> None:
    code, result, _ = repository.broken(target, mutation)
    assert (code, result["verdict"]) == (0, "PASS"), "the forgery is not consistent, so it proves nothing here"
    code, result, _ = repository.broken(target, mutation, "restore")
    assert (code, result["verdict"]) == (6, "FAIL"), result
    failed = [check["name"] for check in result["checks"] if check["result"] == "FAIL"]
    assert re.search(FORGED[target, mutation], " ".join(failed)), result


def test_a_broken_backup_is_never_chosen(repository: Repository) -> None:
    """`latest` must not be yesterday's in disguise, and a list must say what is broken."""
    repository.broken("fingerprint.json", "truncate half")
    code, listed = repository.host.lifeboat("list", "--config-directory", f"{ROOM}/broken")
    assert code == 0
    assert [(backup["id"], backup["good"]) for backup in listed] == [
        (repository.older, True),
        (repository.newer, False),
    ]
    code, result = repository.host.lifeboat("verify", "--level", "checksum", "--config-directory", f"{ROOM}/broken")
    assert (code, result["id"], result["verdict"]) == (6, repository.newer, "FAIL")
