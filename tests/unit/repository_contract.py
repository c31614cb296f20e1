# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every repository promises. Each implementation's tests subclass Contract with a fixture `repo`, an empty one.

Only Repository's own methods are called, and the two primitives below them: what differs between a directory and a
bucket is tested where they are.
"""

from __future__ import annotations

import copy
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base as repository

ID = "db_backup_20261124_020000"
OTHER = "db_backup_20261125_020000"
SPAN = "wal_backup_20261201_130000"
PIECE = "0000000100000000000000A4.00000000.zst"
NOTE_NAME = "note-000001.json"
DAY = timedelta(days=1)
ARTEFACTS = {"globals.sql": b"roles", "empty": b"", "dbname.dump/toc.dat": b"toc" * 1000}
FILES = {name: len(data) for name, data in ARTEFACTS.items()}


def publish(repo: repository.Repository, id: str = ID, component: str = "database", manifest: bytes = b"{}") -> None:
    with repo.stage(component, id) as staging:
        for name, data in ARTEFACTS.items():
            (staging.path / name).parent.mkdir(exist_ok=True)
            (staging.path / name).write_bytes(data)
        staging.publish(manifest)


def unpublish(repo: repository.Repository, id: str = ID) -> None:
    """Take the manifest away, as a deletion that was killed leaves a backup."""
    repo._remove(("postgresql", id, "manifest.json"))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def calls(repo: repository.Repository, id: str) -> Iterator[Callable[[], Any]]:
    """Every method that is asked for a backup that must be there."""
    yield lambda: repo.manifest("database", id)
    yield lambda: repo.files("database", id)
    yield lambda: repo.open("database", id, "globals.sql")
    yield lambda: repo.write_record("database", id, repository.VERIFICATION, b"{}")
    yield lambda: repo.delete("database", id)


class Contract:
    # --- publishing ---

    def test_publish_and_read_back(self, repo: repository.Repository, tmp_path: Path) -> None:
        assert repo.ids("database") == repo.published("database") == []
        publish(repo, OTHER)
        publish(repo)
        publish(repo, "config_backup_20261124_033000", "config")
        assert repo.ids("database") == repo.published("database") == [ID, OTHER], "the oldest first"
        assert repo.ids("config") == repo.published("config") == ["config_backup_20261124_033000"]
        assert repo.ids("objects") == repo.published("objects") == []
        assert repo.files("database", ID) == FILES
        assert repo.manifest("database", ID) == b"{}"
        for name, data in ARTEFACTS.items():
            with repo.open("database", ID, name) as stream:
                assert stream.read(4) == data[:4]
                assert stream.read() == data[4:]
        with repo.materialise("database", ID) as path:
            assert contents(path) == {**ARTEFACTS, "manifest.json": b"{}"}
        repo.fetch("database", ID, tmp_path / "copy")
        assert contents(tmp_path / "copy") == {**ARTEFACTS, "manifest.json": b"{}"}
        with pytest.raises(LifeboatError, match="File exists"):
            repo.fetch("database", ID, tmp_path / "copy")
        assert repo.location("database", ID).endswith(f"/postgresql/{ID}")

    def test_it_can_be_used(self, repo: repository.Repository) -> None:
        repo.check()
        repo.check(writable=True)
        assert (repo.free_bytes() or 0) > 0
        assert repo.ids("database") == repo.points() == [], "a check leaves nothing"

    @pytest.mark.parametrize("name", ["a b", "ü/名前.dump", "50%2F+&=?#.sql", "-rf", "~", "x" * 200])
    def test_artefacts_of_any_plain_name(self, repo: repository.Repository, tmp_path: Path, name: str) -> None:
        with repo.stage("database", ID) as staging:
            (staging.path / name).parent.mkdir(exist_ok=True)
            (staging.path / name).write_bytes(b"here")
            staging.publish(b"{}")
        assert repo.files("database", ID) == {name: 4}
        repo.fetch("database", ID, tmp_path / "copy")
        assert (tmp_path / "copy" / name).read_bytes() == b"here"

    @pytest.mark.parametrize("manifest", [b"", b"\xff\x00{", b"[" * 100_000, b"x" * (1 << 20)])
    def test_an_unreadable_manifest_is_returned_as_it_is(self, repo: repository.Repository, manifest: bytes) -> None:
        """Bytes and names, no schema: the reader checks them."""
        publish(repo, manifest=manifest)
        assert repo.published("database") == [ID]
        assert repo.manifest("database", ID) == manifest

    def test_what_is_written_is_private(self, repo: repository.Repository, tmp_path: Path) -> None:
        with repo.stage("database", ID) as staging:
            assert stat.S_IMODE(staging.path.stat().st_mode) == 0o700
            (staging.path / "d").mkdir(mode=0o755)
            (staging.path / "d/f").write_bytes(b"x")
            (staging.path / "d/f").chmod(0o644)
            staging.publish(b"{}")
        repo.fetch("database", ID, tmp_path / "copy")
        with repo.materialise("database", ID) as directory:
            for top in (directory, tmp_path / "copy"):
                for path in [top, *top.rglob("*")]:
                    assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    @pytest.mark.parametrize("leave", ["quietly", "with an error"])
    def test_an_unpublished_staging_leaves_nothing(self, repo: repository.Repository, leave: str) -> None:
        try:
            with repo.stage("database", ID) as staging:
                (staging.path / "half").write_bytes(b"x")
                assert repo.ids("database") == [], "nothing is there before it is published"
                if leave == "with an error":
                    raise RuntimeError("pg_dump failed")
        except RuntimeError:
            pass
        assert not staging.path.exists()
        assert repo.ids("database") == []
        publish(repo)

    @pytest.mark.parametrize("state", ["published", "unpublished"])
    def test_an_existing_id_is_refused(self, repo: repository.Repository, state: str) -> None:
        publish(repo)
        if state == "unpublished":
            unpublish(repo)
        with pytest.raises(UsageError, match="a backup of that id exists"), repo.stage("database", ID):
            pytest.fail("it was staged")
        assert repo.files("database", ID) == FILES

    def test_the_id_appears_while_staging(self, repo: repository.Repository) -> None:
        with pytest.raises(UsageError, match="a backup of that id exists"), repo.stage("database", ID) as first:
            publish(repo)
            first.publish(b"second")
        assert repo.manifest("database", ID) == b"{}"
        assert repo.files("database", ID) == FILES

    def test_of_two_runs_with_one_id_one_publishes(self, repo: repository.Repository) -> None:
        """Both have staged when the first one begins to publish; what they publish has different names and bytes."""
        for race in range(3):
            id = f"db_backup_2026112{race}_020000"
            outcomes: dict[str, bool] = {}
            barrier = threading.Barrier(2)

            def run(name: str, id: str = id, outcomes: dict[str, bool] = outcomes, at: Any = barrier) -> None:
                with repo.stage("database", id) as staging:
                    (staging.path / name).write_bytes(name.encode())
                    (staging.path / "both").write_bytes(name.encode() * 1000)
                    at.wait()
                    try:
                        staging.publish(name.encode())
                        outcomes[name] = True
                    except UsageError:
                        outcomes[name] = False

            threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            winners = [name for name, published in outcomes.items() if published]
            assert len(winners) == 1, outcomes
            assert repo.manifest("database", id) == winners[0].encode()
            with repo.materialise("database", id) as path:
                own = winners[0].encode()
                assert contents(path) == {winners[0]: own, "both": own * 1000, "manifest.json": own}

    def test_of_two_that_write_one_point_one_does(self, repo: repository.Repository) -> None:
        real, written = repo._read, []

        def read(parts: tuple[str, ...]) -> Any:
            seen = real(parts)
            if not written:
                written.append(parts)
                assert repo._write_new(parts, b"theirs"), "between the look and the write"
            return seen

        repo._read = read  # type: ignore[method-assign]
        with pytest.raises(UsageError, match="exists already"):
            repo.write_point("20261124_033000", b"ours")
        assert repo.read_point("20261124_033000") == b"theirs"

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda path: (path / "claim.json").touch(), UsageError, "the repository's own"),
            (lambda path: (path / "f").symlink_to("/etc/passwd"), IntegrityError, "not a plain file"),
            (lambda path: (path / "d").symlink_to("/etc"), IntegrityError, "not a plain file"),
            (lambda path: os.mkfifo(path / "f"), IntegrityError, "not a plain file"),
            (lambda path: (path / "manifest.json").touch(), UsageError, "the repository's own"),
            (lambda path: (path / "verification.json").touch(), UsageError, "the repository's own"),
            (lambda path: (path / "a\nb").touch(), UsageError, "not a plain relative path"),
            (lambda path: (path / "a\\b").touch(), UsageError, "not a plain relative path"),
            (lambda path: Path(os.fsdecode(bytes(path) + b"/\xff")).touch(), UsageError, "not a plain relative path"),
        ],
        ids=["claim", "link", "link to a directory", "fifo", "manifest", "record", "newline", "backslash", "not UTF-8"],
    )
    def test_what_may_not_be_published(
        self, repo: repository.Repository, make: Callable[[Path], Any], error: type[LifeboatError], message: str
    ) -> None:
        with pytest.raises(error, match=message), repo.stage("database", ID) as staging:
            (staging.path / "good").write_bytes(b"x")
            make(staging.path)
            staging.publish(b"{}")
        assert not staging.path.exists()
        assert repo.ids("database") == []
        publish(repo)

    # --- whose it is ---

    def test_the_first_stack_that_writes_marks_it(self, repo: repository.Repository) -> None:
        repo.stack = "shop"
        repo.require_ours()
        assert repo._read(("repository.json",)) is None, "to look makes nothing"
        publish(repo)
        marker = json.loads(repo._read(("repository.json",)) or b"")
        assert (marker["schema"], marker["version"], marker["stack"]) == ("lifeboat.dr/repository", [1, 0], "shop")
        assert re.fullmatch("[0-9a-f]{32}", marker["repository"])
        publish(repo, OTHER)
        repo.check(writable=True)
        assert json.loads(repo._read(("repository.json",)) or b"") == marker, "once"
        assert repo.ids("database") == [ID, OTHER]

    def test_a_second_stack_is_refused(self, repo: repository.Repository) -> None:
        repo.stack = "shop"
        publish(repo)
        repo.write_point("20261124_033000", b"{}")
        other = copy.copy(repo)
        other.stack, other._owned = "wiki", False
        later = datetime.now(timezone.utc) + 2 * DAY

        def stage() -> None:
            with other.stage("database", OTHER):
                pytest.fail("it was staged")

        for use in (
            stage,
            other.require_ours,
            lambda: other.check(writable=True),
            lambda: other.write_point("20261125_033000", b"{}"),
            lambda: other.delete("database", ID),
            lambda: other.delete_point("20261124_033000"),
            lambda: other.sweep(DAY, later),
        ):
            with pytest.raises(repository.OtherStackError, match=r"its marker names the stack shop\..*for each stack"):
                use()
        other.check()
        assert other.manifest("database", ID) == b"{}", "it may read, as a recovery does"
        assert (repo.published("database"), repo.points()) == ([ID], ["20261124_033000"])

    @pytest.mark.parametrize(
        ("manifests", "adopted"),
        [
            ([b'{"stack": "shop"}', b'{"stack": "shop"}'], True),
            ([b'{"stack": "shop"}', b"{"], True),
            ([b'{"stack": "shop"}', b'{"stack": "wiki"}'], False),
            ([b'{"stack": "wiki"}', b"{"], False),
        ],
        ids=["of this stack", "one cannot be read", "one is another's", "of another stack"],
    )
    def test_a_repository_without_a_marker(
        self, repo: repository.Repository, manifests: list[bytes], adopted: bool
    ) -> None:
        for id, manifest in zip((ID, OTHER), manifests):
            publish(repo, id, manifest=manifest)
        repo.stack = "shop"
        repo.require_ours()
        if adopted:
            publish(repo, "db_backup_20261126_020000")
            assert b'"shop"' in (repo._read(("repository.json",)) or b"")
            return
        with pytest.raises(repository.OtherStackError, match="no marker, and holds backups of wiki"):
            publish(repo, "db_backup_20261126_020000")
        assert repo._read(("repository.json",)) is None
        assert repo.ids("database") == [ID, OTHER]

    def test_two_stacks_that_begin_at_once(self, repo: repository.Repository) -> None:
        """The other one's marker appears between the look and the write."""
        repo.stack = "shop"
        real = repo._write_new

        def late(parts: tuple[str, ...], data: bytes) -> bool:
            if parts == ("repository.json",):
                assert real(parts, data.replace(b"shop", b"wiki"))
            return real(parts, data)

        repo._write_new = late  # type: ignore[method-assign]
        with pytest.raises(repository.OtherStackError, match="its marker names the stack wiki"):
            publish(repo)
        assert repo.ids("database") == []

    @pytest.mark.parametrize("marker", [b"", b"{", b"[]", b'{"schema": "x", "stack": "shop", "repository": "1"}'])
    def test_a_marker_that_cannot_be_read(self, repo: repository.Repository, marker: bytes) -> None:
        repo._write_new(("repository.json",), marker)
        repo.stack = "shop"
        with pytest.raises(IntegrityError, match="its marker cannot be read"):
            publish(repo)

    # --- names ---

    @pytest.mark.parametrize(
        "id",
        ["", ".", "..", "../x", "a/b", ".partial-x", f"{ID}/", f"{ID}\n", f"/{ID}", f"{ID}/../{OTHER}", "x" * 300],
    )
    def test_ids_that_are_not_plain_are_refused(self, repo: repository.Repository, id: str) -> None:
        publish(repo)
        for call in calls(repo, id):
            with pytest.raises(UsageError, match="not a backup id"):
                call()
        with pytest.raises(UsageError, match="not a backup id"):
            repo.location("database", id)
        with pytest.raises(UsageError, match="not a backup id"), repo.stage("database", id):
            pytest.fail("it was staged")
        assert repo.published("database") == [ID]

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a//b", "a/../b", "a/", "a\\b", "a\0b"])
    def test_names_that_are_not_plain_are_refused(self, repo: repository.Repository, name: str) -> None:
        publish(repo)
        with pytest.raises(UsageError, match="not a plain relative path"):
            repo.open("database", ID, name)
        with pytest.raises(UsageError, match="a record is one of"):
            repo.read_record("database", ID, name)
        with pytest.raises(UsageError, match="a record is one of"):
            repo.write_record("database", ID, name, b"")

    def test_hostile_names_do_not_escape(
        self, repo: repository.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store may list any name at all; none may be written outside the directory asked for."""
        publish(repo)
        monkeypatch.setattr(repo, "files", lambda component, id: {"../../escaped": 1})
        with pytest.raises(UsageError, match="not a plain relative path"):
            repo.fetch("database", ID, tmp_path / "a/b/copy")
        assert not list(tmp_path.rglob("escaped"))

    def test_unknown_component_and_missing_backup(self, repo: repository.Repository) -> None:
        for ask in (repo.ids, repo.published):
            with pytest.raises(UsageError, match="no such component"):
                ask("frontend")
        for call in calls(repo, ID):
            with pytest.raises(NotFoundError):
                call()
        publish(repo)
        with pytest.raises(NotFoundError):
            repo.open("database", ID, "globals.sql.zst")

    # --- deleting ---

    def test_deleted_is_gone(self, repo: repository.Repository) -> None:
        publish(repo)
        publish(repo, OTHER)
        repo.write_record("database", ID, repository.VERIFICATION, b"{}")
        assert repo.delete("database", ID) == []
        assert repo.ids("database") == repo.published("database") == [OTHER]
        assert repo.files("database", OTHER) == FILES
        for call in calls(repo, ID):
            with pytest.raises(NotFoundError):
                call()
        publish(repo)
        assert repo.read_record("database", ID, repository.VERIFICATION) is None, "it is another backup"

    def test_without_a_manifest_it_is_no_backup(self, repo: repository.Repository) -> None:
        publish(repo)
        unpublish(repo)
        assert repo.published("database") == []
        assert repo.ids("database") == [ID]
        assert repo.files("database", ID) == FILES, "a deletion that was killed can be seen"
        with pytest.raises(NotFoundError, match="no such backup"):
            repo.manifest("database", ID)
        with pytest.raises(NotFoundError, match="no such backup"):
            repo.write_record("database", ID, repository.PINNED, b"{}")
        repo.delete("database", ID)
        assert repo.ids("database") == []

    def test_sweep(self, repo: repository.Repository) -> None:
        now = datetime.now(timezone.utc)
        later = now + 2 * DAY  # a time of change cannot be set, so the clock is moved
        publish(repo)
        publish(repo, OTHER)
        unpublish(repo, OTHER)
        stale = [repo.location("database", OTHER)]
        assert repo.sweep(DAY, now) == [], "it may be on its way"
        assert repo.sweep(DAY, later, dry_run=True) == stale
        assert repo.ids("database") == [ID, OTHER]
        assert repo.sweep(DAY, later) == stale
        assert repo.sweep(DAY, later) == []
        assert repo.ids("database") == repo.published("database") == [ID]
        assert repo.files("database", ID) == FILES

    # --- what grows ---

    def test_what_grows_is_a_backup_once_it_is_closed(self, repo: repository.Repository, tmp_path: Path) -> None:
        assert repo.growing("wal") == []
        repo.add("wal", SPAN, PIECE, b"zstd")
        repo.add("wal", SPAN, NOTE_NAME, b"{}\n")
        assert (repo.growing("wal"), repo.published("wal"), repo.ids("wal")) == ([SPAN], [], [SPAN])
        assert repo.files("wal", SPAN) == {PIECE: 4}, "a note is no artefact"
        assert repo.notes("wal", SPAN) == [NOTE_NAME]
        assert repo.read_note("wal", SPAN, NOTE_NAME) == b"{}\n"
        assert repo.read_file("wal", SPAN, repository.MANIFEST) is None
        with repo.open("wal", SPAN, PIECE) as stream:
            assert stream.read() == b"zstd"
        repo.finish("wal", SPAN, b"{}")
        assert (repo.growing("wal"), repo.published("wal")) == ([], [SPAN])
        assert repo.manifest("wal", SPAN) == repo.read_file("wal", SPAN, repository.MANIFEST) == b"{}"
        assert (repo.files("wal", SPAN), repo.notes("wal", SPAN)) == ({PIECE: 4}, [NOTE_NAME])
        repo.fetch("wal", SPAN, tmp_path / "copy")
        assert contents(tmp_path / "copy") == {PIECE: b"zstd", "manifest.json": b"{}"}
        assert repo.delete("wal", SPAN) == []
        assert repo.ids("wal") == []

    def test_what_grows_is_never_replaced(self, repo: repository.Repository) -> None:
        for _again in range(2):
            repo.add("wal", SPAN, PIECE, b"zstd")
            repo.add("wal", SPAN, NOTE_NAME, b"{}")
        for name in (PIECE, NOTE_NAME):
            assert not repo.grow("wal", SPAN, name, b"more")
            with pytest.raises(repository.TakenError, match="with other bytes"):
                repo.add("wal", SPAN, name, b"other")
        for _again in range(2):
            repo.finish("wal", SPAN, b"{}")
        with pytest.raises(repository.TakenError, match="with other bytes"):
            repo.finish("wal", SPAN, b"[]")
        with pytest.raises(repository.TakenError, match="the span is closed"):
            repo.add("wal", SPAN, f"{PIECE}.age", b"late")
        assert repo.manifest("wal", SPAN) == b"{}"
        assert repo.files("wal", SPAN) == {PIECE: 4}

    @pytest.mark.parametrize("name", ["a/b", "../x", "copies.json", "claim.json", "manifest.json/x", ""])
    def test_what_grows_takes_plain_names(self, repo: repository.Repository, name: str) -> None:
        with pytest.raises(UsageError):
            repo.grow("wal", SPAN, name, b"x")
        assert repo.ids("wal") == []

    def test_only_spans_grow(self, repo: repository.Repository) -> None:
        with pytest.raises(UsageError, match="no backup of database grows"):
            repo.grow("database", ID, "x", b"x")
        with pytest.raises(UsageError, match="not a note's name"):
            repo.read_note("wal", SPAN, "manifest.json")
        with pytest.raises(NotFoundError):
            repo.read_note("wal", SPAN, NOTE_NAME)

    def test_what_grows_is_no_leftover(self, repo: repository.Repository) -> None:
        repo.add("wal", SPAN, PIECE, b"zstd")
        assert repo.sweep(DAY, datetime.now(timezone.utc) + 30 * DAY) == []
        assert repo.growing("wal") == [SPAN]

    def test_a_note_is_bounded(self, repo: repository.Repository) -> None:
        repo.add("wal", SPAN, NOTE_NAME, b"x" * ((1 << 20) + 1))
        with pytest.raises(IntegrityError, match="more than 1048576 bytes"):
            repo.read_note("wal", SPAN, NOTE_NAME)

    # --- records and points ---

    def test_records(self, repo: repository.Repository) -> None:
        publish(repo)
        for name in repository.RECORDS:
            assert repo.read_record("database", ID, name) is None
            for data in (b"1", b"22"):
                repo.write_record("database", ID, name, data)
                assert repo.read_record("database", ID, name) == data
        assert repo.files("database", ID) == FILES, "a record is not an artefact"
        assert repo.published("database") == [ID]
        assert repo.read_record("database", ID, repository.COPIES) == b"22"
        with pytest.raises(UsageError, match="a record is one of"):
            repo.write_record("database", ID, "manifest.json", b"")

    def test_recovery_points(self, repo: repository.Repository) -> None:
        assert repo.points() == []
        repo.write_point("20261125_033000", b"b")
        repo.write_point("20261124_033000", b"a")
        repo.write_escrow("shop", b"{}")
        repo._write(("recovery-points", "notes.json"), b"")
        assert repo.points() == ["20261124_033000", "20261125_033000"]
        assert repo.read_point("20261124_033000") == b"a"
        with pytest.raises(UsageError, match="exists already"):
            repo.write_point("20261124_033000", b"other")
        assert repo.read_point("20261124_033000") == b"a"
        assert repo.delete_point("20261124_033000") == []
        assert repo.points() == ["20261125_033000"]
        with pytest.raises(NotFoundError):
            repo.read_point("20261124_033000")
        with pytest.raises(UsageError, match="not its id"):
            repo.read_point("../postgresql/x")

    def test_escrow(self, repo: repository.Repository) -> None:
        assert repo.read_escrow("shop") is None
        for data in (b"1", b"22"):
            repo.write_escrow("shop", data)
        assert (repo.read_escrow("shop"), repo.read_escrow("wiki")) == (b"22", None)
        with pytest.raises(UsageError, match="not a plain relative path"):
            repo.write_escrow("../shop", b"")

    def test_holds(self, repo: repository.Repository) -> None:
        assert repo.holds() == {}
        for data in (b"1", b"22"):
            repo.write_hold(ID, data)
        repo.write_hold("20261124_033000", b"x" * 5000)
        repo._write(("holds", "notes.json"), b"")
        assert {id: len(data) for id, data in repo.holds().items()} == {ID: 2, "20261124_033000": 4097}
        assert repo.ids("database") == []
        assert repo.points() == []
        for _again in range(2):
            repo.remove_hold(ID)
        assert list(repo.holds()) == ["20261124_033000"]
        with pytest.raises(UsageError, match="not a backup id"):
            repo.write_hold("../holds/x", b"")
