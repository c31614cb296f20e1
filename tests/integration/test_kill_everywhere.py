# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery, killed with -9 at each of its steps, and the same command again: it ends right, by plain SQL and files.

KILLS=all: every step; otherwise a seeded sample of them (SEED=7 takes another). `pytest -s` prints the tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import tarfile
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import kill_everywhere
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup as files_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, publish, publish_config, store
from forge_lab import TOKEN, Lab, Site, git, stand_in
from kill_everywhere import Job, Outcome, Recovery, Step
from postgres_stack import IMAGE, Stack, docker, say

ROWS = """
CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
CREATE TABLE u (a int REFERENCES t, c numeric); INSERT INTO u SELECT n, n / 7.0 FROM generate_series(1, 500) n;
ALTER TABLE t OWNER TO keeper;
"""
SUMS = """
SELECT 't', count(*), md5(string_agg(t::text, ',' ORDER BY a)) FROM t;
SELECT 'u', count(*), md5(string_agg(u::text, ',' ORDER BY a)) FROM u;
SELECT tableowner FROM pg_tables WHERE tablename IN ('t', 'u') ORDER BY tablename;
SELECT conname FROM pg_constraint WHERE conrelid IN ('t'::regclass, 'u'::regclass) ORDER BY 1;
"""
NEWER = "INSERT INTO t VALUES (0, 'newer than the backup');"
CONTROL = "/var/lib/postgresql/data/global/pg_control"


@pytest.fixture
def own(tmp_path: Path, engine: None) -> Iterator[Stack]:
    """A project of the test's own: its server is lost many times."""
    del engine
    (tmp_path / "project").mkdir()
    stack = Stack(tmp_path / "project", f"ke-{os.getpid()}", user="postgres")
    for service in stack.definition["services"].values():
        service["stop_grace_period"] = "1s"
    stack.write()
    try:
        with stack.up():
            yield stack
    finally:
        forget_volumes(stack)


def forget_volumes(stack: Stack) -> None:
    """Of the data that was put aside."""
    for name in docker("volume", "ls", "--quiet").split():
        if name.startswith(stack.name) and "quarantine" in name:
            docker("volume", "rm", name)


def content(root: Path) -> dict[str, tuple[int, str]]:
    """Every path below it: its mode, and the SHA-256 of a file or where a link leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        told = str(path.readlink()) if path.is_symlink() else ""
        if path.is_file() and not told:
            told = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (path.lstat().st_mode, told)
    return found


def differences(there: dict[str, Any], right: dict[str, Any]) -> list[str]:
    names = sorted({*there, *right})
    return [f"{name}: {there.get(name)}" for name in names if there.get(name) != right.get(name)]


class Database(Recovery):
    """One table of the application's database is dropped, and a row is newer than the backup."""

    name = "database, swapped"

    def __init__(self, root: Path, stack: Stack) -> None:
        super().__init__(root)
        self.stack = stack
        self.settings = stack.settings(root, database={"name": "shop"}, application={"timeout": 30, "writers": ["app"]})
        stack.psql("CREATE ROLE keeper LOGIN PASSWORD 'of-the-backup';")
        for name in ("shop", "books"):
            stack.psql(f"CREATE DATABASE {name};")
            stack.psql(ROWS, name)
        self.right = self.sums()
        dump.take(Opened(stack.config(root, database={"name": "shop"})), log=say)
        stack.psql(NEWER, "shop")

    def sums(self) -> dict[str, list[str]]:
        found = {name: self.stack.psql(SUMS, name) for name in ("shop", "books")}
        found["roles"] = self.stack.psql("SELECT rolname, rolpassword FROM pg_authid WHERE oid >= 16384 ORDER BY 1;")
        return found

    def job(self) -> Job:
        return self.about("database", self.settings)

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        self.stack.compose("up", "--detach", "--wait")
        for name in self.stack.psql("SELECT datname FROM pg_database WHERE datname ~ '^(shop|books)_';"):
            self.stack.psql(f'DROP DATABASE "{name}" WITH (FORCE);')
        self.stack.psql("ALTER DATABASE shop ALLOW_CONNECTIONS true;")
        self.stack.psql(f"DELETE FROM t WHERE a = 0; {NEWER} DROP TABLE u;", "shop")

    def compare(self) -> str:
        up = set(docker("ps", "--filter", f"name={self.stack.name}-", "--format", "{{.Names}}").split())
        services = {f"{self.stack.name}-{service}-1" for service in ("db", "app")}
        wrong = [f"{name} does not run" for name in sorted(services - up)]
        marks = ("recovering", "stopped.json", "closed.json")
        wrong += [f"{name} is left" for name in marks if (self.root / "state" / name).exists()]
        try:
            sums = self.sums()
            wrong += [f"{name}: {sums[name]}" for name in self.right if sums[name] != self.right[name]]
            shut = "NOT datallowconn AND datname != 'template0' OR datconnlimit != -1"
            closed = self.stack.psql(f"SELECT datname FROM pg_database WHERE {shut};")
            wrong += [f"{name} is closed" for name in closed if "quarantine" not in name]
            wrong += self.aside()
        except AssertionError as exc:
            wrong.append(str(exc))
        return "; ".join(wrong)

    def aside(self) -> list[str]:
        """The row that is newer than the backup is in what was put aside, once."""
        kept = self.stack.psql("SELECT datname FROM pg_database WHERE datname ~ 'shop_.*quarantine';")
        rows = sum(int(self.stack.psql("SELECT count(*) FROM t WHERE a = 0;", name)[0]) for name in kept)
        left = self.stack.psql("SELECT datname FROM pg_database WHERE datname ~ '_(restore|verify)_';")
        return [f"{rows} newer rows in {kept}"] * (rows != 1) + [f"{name} is left" for name in left]


class Server(Database):
    """The server's control file is gone: its data is put aside, and a fresh one is filled."""

    name = "database, rebuilt"

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        self.stack.compose("up", "--detach", "--wait")
        docker("exec", self.stack.container, "truncate", "-s", "0", CONTROL)
        docker("kill", self.stack.container)
        forget_volumes(self.stack)

    def aside(self) -> list[str]:
        kept = [name for name in docker("volume", "ls", "--quiet").split() if name.startswith(self.stack.name)]
        kept = [name for name in kept if "quarantine" in name]
        return [f"put aside: {kept}"] * (len(kept) != 1)


@pytest.mark.parametrize("kind", [Database, Server])
def test_the_database(tmp_path: Path, own: Stack, kind: Any) -> None:
    kill_everywhere.expect_right(kind(tmp_path, own).everywhere(every=kill_everywhere.wanted_all()))


# --- the stack's files ---

FOLDER_MODES = {"conf": 0o750, "conf/deep": 0o711}
FILE_MODES = {"compose.yml": 0o644, "app.conf": 0o640, "conf/a": 0o600, "conf/deep/b": 0o444, "run.sh": 0o755}


class Files(Recovery):
    """Some of a stack's files are gone, some are others, and one lies where a directory was."""

    name = "the stack's files"
    most = 8
    records = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.stack = root / "srv"
        for folder, mode in FOLDER_MODES.items():
            (self.stack / folder).mkdir(parents=True)
            (self.stack / folder).chmod(mode)
        for name, mode in FILE_MODES.items():
            (self.stack / name).write_text(f"{name} as it was\n" * 100)
            (self.stack / name).chmod(mode)
        (self.stack / "current").symlink_to("conf/a")
        (root / "backup").mkdir()
        (root / "etc").mkdir()
        self.settings = {
            "stack": "shop", "runtime": {"type": "host", "project_directory": str(self.stack)},
            "repository": {"type": "local", "path": str(root / "backup")}, "state_directory": str(root / "state"),
            "config": {"files": [str(self.stack)]},
        }  # fmt: skip
        made = config.from_mapping(self.settings)
        self.id = configuration_backup.take(Opened(made), log=say, directory=root / "etc").id
        self.right = content(self.stack)

    def job(self) -> Job:
        return self.about("files", self.settings, id=self.id, place="repository")

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        shutil.rmtree(self.stack)
        self.stack.mkdir()
        (self.stack / "app.conf").write_text("somebody's other")
        (self.stack / "conf").write_text("a file where a directory was")
        (self.stack / "current").symlink_to("/nowhere")

    def compare(self) -> str:
        state, kept = self.root / "state", {}
        for path in (state / "quarantine").rglob("*"):
            if path.is_symlink() or path.is_file():
                kept[path.name] = str(path.readlink()) if path.is_symlink() else path.read_text()
        wrong = differences(content(self.stack), self.right)
        expected = {"app.conf": "somebody's other", "conf": "a file where a directory was", "current": "/nowhere"}
        wrong += [f"quarantine: {name}" for name in differences(kept, expected)]
        left = sorted(path.name for path in state.glob("*") if path.name not in ("quarantine", "turn.json"))
        return "; ".join([*wrong, *(f"{name} is left" for name in left if not name.endswith(".json"))])


def test_the_stacks_files(tmp_path: Path) -> None:
    kill_everywhere.expect_right(Files(tmp_path).everywhere(every=kill_everywhere.wanted_all()))


# --- the application's files ---


class ApplicationFiles(Recovery):
    """Of a directory of the application's some files are gone, one is another, and one was not there before."""

    name = "application's files"
    most = 8
    always = ".*evidence"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.files, self.saved = root / "uploads", root / "saved"
        (self.saved / "a/deep").mkdir(parents=True)
        for name in ("a/one", "a/two", "a/deep/three", "four"):
            (self.saved / name).write_text(f"{name} as it was\n" * 100)
        (self.saved / "a/two").chmod(0o600)
        (self.saved / "link").symlink_to("a/one")
        shutil.copytree(self.saved, self.files, symlinks=True)
        (root / "backup").mkdir()
        self.settings = {
            "stack": "shop", "runtime": {"type": "host"}, "state_directory": str(root / "state"),
            "repository": {"type": "local", "path": str(root / "backup")},
            "files": {"sources": [{"name": "uploads", "path": str(self.files)}]},
        }  # fmt: skip
        self.id = files_backup.take(Opened(config.from_mapping(self.settings)), log=say).id
        self.right = content(self.files)

    def job(self) -> Job:
        return self.about("application_files", self.settings, recovery_point=self.id, exact=True)

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        shutil.rmtree(self.files)
        shutil.copytree(self.saved, self.files, symlinks=True)
        shutil.rmtree(self.files / "a/deep")
        (self.files / "link").unlink()
        (self.files / "four").write_text("somebody's other")
        (self.files / "a/new").write_text("somebody's new one")

    def compare(self) -> str:
        there = content(self.files)
        own = {name for name in there if name.startswith(".lifeboat-")}
        wrong = differences({name: told for name, told in there.items() if name not in own}, self.right)
        kept = [(self.files / name).read_text() for name in own if (self.files / name).is_file()]
        wrong += [f"not kept: {text}" for text in ("somebody's other", "somebody's new one") if text not in kept]
        wrong += [f"{name} is left" for name in own if name.startswith(".lifeboat-new")]
        return "; ".join([*wrong, *(f"{path.name} is left" for path in (self.root / "state").glob("recovering*"))])


def test_the_application_s_files(tmp_path: Path) -> None:
    kill_everywhere.expect_right(ApplicationFiles(tmp_path).everywhere(every=kill_everywhere.wanted_all()))


# --- the recovery point of a site ---


class Point(Recovery):
    """A new machine's repository is empty: the point and its backups come out of the vault."""

    name = "the recovery point"
    most = 8
    records = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        vault, self.here = root / "vault", root / "backup"
        vault.mkdir()
        parts = {"database": publish(vault), "config": publish_config(vault)}
        named: dict[str, Any] = {name: points.Part(part.id, part.seal) for name, part in parts.items()}
        self.id, named["objects"] = "20261124_120000", None
        point = points.Point(self.id, "shop", NOW, NOW, "snapshot", named, {}, (), ())
        store(vault).write_point(self.id, point.to_bytes())
        self.vault = vault / "backup"
        self.settings = {
            "stack": "shop", "runtime": {"type": "host"}, "state_directory": str(root / "state"),
            "repository": {"type": "local", "path": str(self.here)}, "database": {"name": "shop"},
        }  # fmt: skip
        self.right = self.published(self.vault)

    def published(self, root: Path) -> dict[str, str]:
        """Its files, but not whose repository it is, nor a staging directory of a run that was killed."""
        found = {name: told for name, (_mode, told) in content(root).items() if told and name != "repository.json"}
        return {name: told for name, told in found.items() if not re.search(r"(^|/)\.", name)}

    def job(self) -> Job:
        about = self.about("point", self.settings, recovery_point=self.id)
        return {**about, "prepare": ":vault_beside", "vault": str(self.vault)}

    def lose(self) -> None:
        for path in (self.root / "state", self.here):
            shutil.rmtree(path, ignore_errors=True)
        self.here.mkdir()

    def compare(self) -> str:
        return "; ".join(differences(self.published(self.here), self.right))


def test_the_recovery_point_of_a_site(tmp_path: Path) -> None:
    kill_everywhere.expect_right(Point(tmp_path).everywhere(every=kill_everywhere.wanted_all()))


# --- the images of a site ---


def image_of(root: Path, content: str, size: int) -> str:
    """An image of one file; its id."""
    folder, archive = root / "image", root / "image.tar"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(content.encode() + random.Random(content).randbytes(size))  # noqa: S311
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "file", "file")
    return docker("import", str(archive)).strip()


class Images(Recovery):
    """Of the images of a new machine one is missing, and another build has the name of the second."""

    name = "the site's images"
    most = 2
    always = ".*(load|tag)"
    records = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        project, self.stack = root / "srv", f"lifeboat-ki-{os.getpid()}"
        for folder in (project, root / "backup", root / "etc"):
            folder.mkdir()
        self.names = {service: f"{self.stack}-{service}:1" for service in ("app", "db")}
        self.other = f"{self.stack}-other:1"
        docker("tag", image_of(root, "an older build", 1 << 10), self.other)
        for service, name in self.names.items():
            docker("tag", image_of(root, service, 8 << 20), name)
        services = {service: {"image": name, "command": "/nothing"} for service, name in self.names.items()}
        (project / "compose.yaml").write_text(json.dumps({"name": self.stack, "services": services}))
        self.settings = {
            "stack": "shop", "runtime": {"project_directory": str(project)}, "database": {"service": "db"},
            "repository": {"type": "local", "path": str(root / "backup")}, "state_directory": str(root / "state"),
            "config": {"files": [str(project)], "images": "archive"},
        }  # fmt: skip
        made = config.from_mapping(self.settings)
        compose = ("compose", "--project-directory", str(project))
        docker(*compose, "create")
        self.right, self.images = self.there(), Opened(made).runtime.images()
        self.id = configuration_backup.take(Opened(made), log=say, directory=root / "etc").id
        docker(*compose, "down")

    def there(self) -> dict[str, str]:
        shown = ("image", "inspect", "--format", "{{.Id}}")
        return {service: docker(*shown, name, check=False).strip() for service, name in self.names.items()}

    def job(self) -> Job:
        asked = {"recovery_point": "20261124_033000", "id": self.id, "images": self.images}
        return self.about("images", self.settings, **asked)

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        self.forget()
        docker("tag", self.other, self.names["db"])

    def chosen(self, whole: Outcome, *, every: bool) -> list[tuple[Step, float]]:
        """The engine's load in its middle too."""
        load = next(index for index, step in enumerate(whole.steps) if step.name.startswith("docker load"))
        took = whole.moments[load + 1] - whole.moments[load]
        return [*super().chosen(whole, every=every), (whole.steps[load], round(took / 2, 3))]

    def forget(self) -> None:
        docker("rmi", "--force", *self.names.values(), *self.right.values(), check=False)

    def compare(self) -> str:
        return "; ".join(differences(self.there(), self.right))


@pytest.fixture
def images(tmp_path: Path, engine: None) -> Iterator[Images]:
    del engine
    made = Images(tmp_path)
    try:
        yield made
    finally:
        made.forget()
        docker("rmi", "--force", made.other, check=False)


def test_the_images_of_a_site(images: Images) -> None:
    kill_everywhere.expect_right(images.everywhere(every=kill_everywhere.wanted_all()))


# --- the frontend ---


class Frontend(Recovery):
    """The site was deleted: the workflow runs again."""

    name = "frontend, run again"
    most = 4
    always = ".*evidence"

    def __init__(self, root: Path, lab: Lab, fallback: dict[str, str]) -> None:
        super().__init__(root)
        self.lab, self.published = lab, Path(fallback["directory"])
        (root / "backup").mkdir()
        self.settings = {
            "stack": "shop", "runtime": {"project_directory": str(root)}, "config": {"enabled": False},
            "repository": {"type": "local", "path": str(root / "backup")}, "state_directory": str(root / "state"),
            "frontend": lab.settings(fallback=fallback), "database": {"name": "shop"},
        }  # fmt: skip
        self.served = root / "forge/pages/hosts/localhost"
        self.right = content(self.served)

    def job(self) -> Job:
        return {**self.about("frontend", self.settings, token=TOKEN), "prepare": ":quick_frontend"}

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        self.lab.settled()
        shutil.rmtree(self.lab.forge.site)

    def compare(self) -> str:
        return "; ".join(differences(content(self.served), self.right))


class Broken(Frontend):
    """The newest commit does not build: what the last good one had is pushed on top of it."""

    name = "frontend, set back"
    always = ".*push|POST"

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        git(self.lab.work, "pull", "--quiet", "--rebase", "origin", "main")
        (self.lab.work / "page.html").write_text("<h1>Shop</h1>")
        (self.lab.work / "notes.txt").unlink(missing_ok=True)
        good = self.lab.push("Good again")
        self.lab.settled()
        self.tree = git(self.lab.work, "rev-parse", f"{good}^{{tree}}")
        self.broken = self.lab.break_build()
        shutil.rmtree(self.lab.forge.site)

    def compare(self) -> str:
        git(self.lab.work, "fetch", "--quiet", "origin", "main")
        above = git(self.lab.work, "rev-list", f"{self.broken}..FETCH_HEAD").split()
        tree = git(self.lab.work, "rev-parse", "FETCH_HEAD^{tree}")
        wrong = ["the branch has other files"] * (tree != self.tree)
        page = self.served / "index.html"
        wrong += ["another page is served"] * (not page.exists() or page.read_text() != "<h1>Shop</h1>")
        return "; ".join(wrong + [f"{len(above)} commits on top"] * (len(above) != 1))


class Fallback(Frontend):
    """GitHub refuses every request: the site is built here and published in place of what the fallback had."""

    name = "frontend, fallback"
    always = "rename .*fallback"

    def ended(self, done: Outcome) -> bool:
        """The public site stays down until its name is pointed at the fallback, and the verdict says so."""
        return done.error.startswith("FAIL site: ") and "FAIL fallback" not in done.error

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        for path in self.root.glob("fallback*"):
            shutil.rmtree(path)
        self.published.mkdir()
        (self.published / "note.txt").write_text("somebody's")
        (self.published / "old").mkdir()
        (self.published / "old/page").write_text("somebody's too")
        shutil.rmtree(self.lab.forge.site, ignore_errors=True)
        self.lab.api.lab("control", b'{"remaining": 0, "reset": 9999999999}')

    def compare(self) -> str:
        there, right = (
            {name: told for name, (_mode, told) in found.items()} for found in (content(self.published), self.right)
        )
        wrong = differences(there, right)
        kept = {path.name: path.read_text() for path in self.root.glob("fallback.quarantine_*/**/*") if path.is_file()}
        old = {"note.txt": "somebody's", "page": "somebody's too"}  # beside them what a killed run had published
        wrong += [f"quarantine: {name}" for name in differences({name: kept.get(name) for name in old}, old)]
        return "; ".join([*wrong, *(f"{path.name} is left" for path in self.root.glob("fallback.new_*"))])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "forge").mkdir()
    made = Lab(tmp_path / "forge")
    build = made.work / "build.sh"
    build.write_text(f"{build.read_text()}mkdir dist/zoo\necho later > dist/zoo/last\n")  # after the marker by its name
    made.push("A site of more files")
    assert made.settled().conclusion == "success"
    yield made
    made.close()


@pytest.mark.parametrize("kind", [Frontend, Broken, Fallback])
def test_the_frontend(tmp_path: Path, lab: Lab, kind: Any) -> None:
    directory = tmp_path / "fallback"
    directory.mkdir()
    server = stand_in.serve(0, partial(Site, directory=str(directory)), "127.0.0.1")
    fallback = {"directory": str(directory), "url": f"http://127.0.0.1:{server.server_address[1]}/"}
    try:
        kill_everywhere.expect_right(kind(tmp_path, lab, fallback).everywhere(every=kill_everywhere.wanted_all()))
    finally:
        server.shutdown()
        server.server_close()


# --- the backend ---


class Backend(Recovery):
    """The compose file is another, by which the application does not start, and its container is gone."""

    name = "backend, redeployed"
    most = 3
    always = "rename an entry"

    def ended(self, done: Outcome) -> bool:
        """A method that is named is taken each time."""
        return not (done.killed or done.error)

    def __init__(self, root: Path, stack: Stack) -> None:
        super().__init__(root)
        self.stack, self.file = stack, stack.directory / "compose.yaml"
        (root / "etc").mkdir()
        self.settings = stack.settings(
            root, database={"service": "db"}, application={"timeout": 30, "writers": ["app"]},
            config={"files": [str(stack.directory)], "images": "digests"},
        )  # fmt: skip
        stack.psql(f"CREATE ROLE keeper; {ROWS}")
        self.right = self.file.read_bytes()
        made = config.from_mapping(self.settings)
        self.rows = self.stack.psql(SUMS)
        configuration_backup.take(Opened(made), log=say, directory=root / "etc")

    def job(self) -> Job:
        return self.about("backend", self.settings, method="redeploy")

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        docker("rm", "--force", f"{self.stack.name}-app-1", check=False)
        self.bad = self.right.replace(b'"infinity"', b'"no-time"')
        assert self.bad != self.right
        self.file.write_bytes(self.bad)
        self.stack.compose("up", "--detach")

    def compare(self) -> str:
        asked = ("inspect", "--format", "{{.State.Running}} {{json .Config.Entrypoint}}")
        app = docker(*asked, f"{self.stack.name}-app-1", check=False).strip()
        wrong = ["the file is another"] * (self.file.read_bytes() != self.right)
        wrong += [f"app: {app}"] * (app != 'true ["sleep","infinity"]')
        kept = [path.read_bytes() for path in (self.root / "state").glob("quarantine/**/compose.yaml")]
        wrong += ["the bad file was not kept"] * (self.bad not in kept)
        left = [path.name for path in self.stack.directory.iterdir() if path.name != "compose.yaml"]
        left += [path.name for path in Path("/run").glob(".redeploying-*")]
        try:
            wrong += ["other rows"] * (self.stack.psql(SUMS) != self.rows)
        except AssertionError as exc:
            wrong.append(str(exc))
        return "; ".join([*wrong, *(f"{name} is left" for name in left)])


class Restarted(Backend):
    """The application was killed: its container is started again."""

    name = "backend, restarted"
    method = "restart"
    always = ".*evidence"

    def job(self) -> Job:
        return self.about("backend", self.settings, method=self.method)

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        self.file.write_bytes(self.right)
        self.bad = self.right  # there is nothing to keep
        self.stack.compose("up", "--detach")
        docker("kill", f"{self.stack.name}-app-1")

    def compare(self) -> str:
        found = super().compare().split("; ")  # what a redeployment leaves in /run is another test's
        return "; ".join(one for one in found if one != "the bad file was not kept" and ".redeploying-" not in one)


class Recreated(Restarted):
    """Every container is made again."""

    name = "backend, recreated"
    method = "recreate"
    always = "(?!)"


class Freed(Restarted):
    """Space is freed before the application is started again."""

    name = "backend, space"
    method = "space"
    always = "(?!)"


SYSTEMCTL = """#!/bin/sh
[ -e {on} ] && state=active || state=inactive
case "$1" in
    show) printf 'LoadState=loaded\\nActiveState=%s\\nResult=success\\n' $state ;;
    start | restart) : >{on} ;;
esac
"""
DOCKER = """#!/bin/sh
[ -e {on} ] && exec {docker} "$@"
echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2
exit 1
"""


class Engine(Restarted):
    """The Docker Engine is down, by stand-ins of its client and of systemd: this machine's own serves others."""

    name = "backend, engine"
    method = "auto"
    most = 3
    always = "systemctl (start|restart)"

    def __init__(self, root: Path, stack: Stack) -> None:
        super().__init__(root, stack)
        self.on, programs = root / "engine-is-on", root / "bin"
        programs.mkdir()
        for name, script in (("systemctl", SYSTEMCTL), ("docker", DOCKER)):
            (programs / name).write_text(script.format(on=self.on, docker=shutil.which("docker")))
            (programs / name).chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    def lose(self) -> None:
        self.on.touch()
        super().lose()
        self.on.unlink()

    def compare(self) -> str:
        return super().compare() if self.on.exists() else "the engine is down"


def test_the_engine_of_the_backend(tmp_path: Path, own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    recovery = Engine(tmp_path, own)
    monkeypatch.setenv("PATH", recovery.path)
    kill_everywhere.expect_right(recovery.everywhere(every=kill_everywhere.wanted_all()))


class Imaged(Restarted):
    """A build without the application's program was deployed: the image of the recovery point gets its name back."""

    name = "backend, image"
    method = "image"
    most = 2
    always = ".*docker tag"

    def __init__(self, root: Path, stack: Stack) -> None:
        self.reference, self.bad_image = f"{stack.name}-app:1", f"{stack.name}-app:bad"
        docker("tag", IMAGE, self.reference)
        docker("tag", image_of(root, "no program", 10), self.bad_image)
        stack.definition["services"]["app"]["image"] = self.reference
        stack.write()
        stack.compose("up", "--detach", "--wait")
        super().__init__(root, stack)
        run = Opened(config.from_mapping(self.settings))
        dump.take(run, log=say)
        points.seal(run, now=datetime.now(timezone.utc), log=say)
        self.good = self.image(self.reference)

    def image(self, reference: str) -> str:
        return docker("image", "inspect", "--format", "{{.Id}}", reference).strip()

    def kept(self) -> list[str]:
        repository = f"lifeboat-quarantine/{self.stack.stack}-app"
        return docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository).split()

    def lose(self) -> None:
        super().lose()
        self.forget()
        docker("tag", self.bad_image, self.reference)
        with contextlib.suppress(AssertionError):  # the engine finds no program to start
            self.stack.compose("up", "--detach", "--force-recreate", "--no-deps", "app")

    def compare(self) -> str:
        wrong = ["the name means another image"] * (self.image(self.reference) != self.good)
        if not wrong:
            kept = [name for name in self.kept() if self.image(name) == self.image(self.bad_image)]
            wrong += [f"the other image was kept as {kept}"] * (len(kept) != 1)
        return "; ".join(filter(None, [super().compare(), *wrong]))

    def forget(self) -> None:
        for name in self.kept():
            docker("rmi", name, check=False)


@pytest.fixture
def imaged(tmp_path: Path, own: Stack) -> Iterator[Imaged]:
    made = Imaged(tmp_path, own)
    try:
        yield made
    finally:
        own.compose("rm", "--stop", "--force", "app")
        made.forget()
        docker("rmi", made.reference, made.bad_image, check=False)


def test_the_image_of_the_backend(imaged: Imaged) -> None:
    kill_everywhere.expect_right(imaged.everywhere(every=kill_everywhere.wanted_all()))


def test_the_backend(tmp_path: Path, own: Stack) -> None:
    kill_everywhere.expect_right(Backend(tmp_path, own).everywhere(every=kill_everywhere.wanted_all()))


@pytest.mark.parametrize("kind", [Restarted, Recreated, Freed])
def test_the_smaller_steps_of_the_backend(tmp_path: Path, own: Stack, kind: Any) -> None:
    kill_everywhere.expect_right(kind(tmp_path, own).everywhere(every=kill_everywhere.wanted_all()))
