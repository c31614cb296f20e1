# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens, every recovery point that is kept gives back exactly what was there: bytes, headers, metadata, and
tags as of when each listing says that they were read.

Random writes, deletions, uploads in parts, changes of tags in place, mirrors, prunes, steps of the server's clock, and
servers that answer as others do. Mirrors, prunes and a recovery are killed (SIGKILL) at a request of theirs, which the
server still carries out or not. An oracle knows what each object was at every moment. In the end a last prune leaves
nothing of what was killed. A run is given by its seed and ends when its time is over: after 10 s, with LONG=1 after 30.
For a longer one, or another:

    PROPERTY_SECONDS=1800 PROPERTY_SEED=7 pytest tests/objects/test_property.py
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import re
import signal
import threading
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import pytest
import s3_quirks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back, guard, prune, sweep, take
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import state as mirror_state
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.prune import Pruned
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import EVENTUAL
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, copier, properties, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import TRUST, Bucket, Doubts, Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Edit, Fault, Proxy, Reply, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World, other, versioned

MakeBucket = Callable[[Server], str]
SECONDS = float(os.environ.get("PROPERTY_SECONDS") or (30 if os.environ.get("LONG") else 10))
SEED = int(os.environ.get("PROPERTY_SEED", "20261127"))
KEYS = [
    *(f"{letter}/{number}%ff" for letter in "ab" for number in range(6)), "p", "p/b", "p/b/c", "q", "q+r", "q r/s",
    "ä/ö", "\u65e5\u672c", "x&<y>", "z",
]  # fmt: skip
PART = 5 << 20  # bytes: what is larger travels in parts; SeaweedFS takes no smaller ones
LEAST = 3  # points that a run has, however slow the machine is
KILLED = 0.25  # of the mirrors and prunes
KEPT = 6  # points, of which prunes let some go
State = tuple[bytes, tuple[tuple[str, str], ...]]  # bytes; headers and metadata, sorted
Tags = tuple[tuple[str, str], ...]  # sorted
FAR = timedelta(days=400)
HANGS = 300  # seconds after which a process that was to be killed is killed at last
TAGS_DAYS = 3  # every object's tags are read again within so many days; a day of the test is a second


class Oracle:
    """What every object was at every moment: by key, when each change had begun and ended, and what it was then."""

    def __init__(self) -> None:
        self._past: defaultdict[str, list[tuple[float, float, State | None]]] = defaultdict(list)
        # Of each version that was written: what it is, and when each change of its tags had begun and ended.
        self._tags: defaultdict[str, list[tuple[State, list[tuple[float, float, Tags]]]]] = defaultdict(list)

    def note(self, key: str, began: float, state: State | None, tags: Tags = ()) -> None:
        self._past[key].append((began, time.time(), state))
        if state is not None:
            self._tags[key].append((state, [(began, time.time(), tags)]))

    def note_tags(self, key: str, began: float, tags: Tags) -> None:
        """They are now those of the current version."""
        self._tags[key][-1][1].append((began, time.time(), tags))

    def tags(self, key: str, state: State, since: float, until: float) -> set[Tags]:
        """All that a version which is this may have had in that time; one that was overwritten keeps its last."""
        return {
            tags
            for found, past in self._tags[key]
            for (began, _ended, tags), last in zip(past, [*(ended for _b, ended, _t in past[1:]), float("inf")])
            if found == state and began <= until and last >= since
        }

    def now(self) -> dict[str, State]:
        return {key: past[-1][2] for key, past in self._past.items() if past[-1][2] is not None}

    def during(self, key: str, since: float, until: float) -> set[State | None]:
        """All that it may have been in that time."""
        past = [(0.0, 0.0, None), *self._past.get(key, ())]
        # A change takes effect between when it began and when it ended.
        lasted = [*(ended for _began, ended, _state in past[1:]), float("inf")]
        return {state for (began, _ended, state), last in zip(past, lasted) if began <= until and last >= since}


@dataclasses.dataclass
class Taken:
    """A recovery point: what each key may be in it; without those that it names as not held."""

    point: Point
    allowed: dict[str, set[State | None]]


def clock_of(seconds: int) -> tuple[Fault, Edit]:
    """The server's clock is off by so much: in what it says of its time, and of its objects'."""

    def moved(found: re.Match[bytes]) -> bytes:
        at = datetime.strptime(found[1].decode()[:19], "%Y-%m-%dT%H:%M:%S") + timedelta(seconds=seconds)
        return f"<LastModified>{at:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>".encode()

    def edit(call: Call, body: bytes) -> bytes:
        return body if call.key else re.sub(rb"<LastModified>(.*?)</LastModified>", moved, body)

    return lambda call: Reply(clock=float(seconds)), edit


def lacks_some(dice: random.Random) -> Edit:
    """A listing whose keys go back, and which lacks one of them. No server that we know."""

    def edit(call: Call, body: bytes) -> bytes:
        keys = sorted({*re.findall(rb"<Key>(.*?)</Key>", body)})
        if call.key or call.method != "GET" or len(keys) < 3 or not {"versions", "list-type"} & call.query.keys():
            return body
        body = s3_quirks.backwards(call, body)
        lost = re.escape(b"<Key>" + dice.choice(keys) + b"</Key>")
        row = rb"<(Contents|Version|DeleteMarker)>(?:(?!</\1>).)*?" + lost + rb".*?</\1>"
        return re.sub(row, b"", body, flags=re.DOTALL)

    return edit


def tired() -> Fault:
    """Every fifth request is refused; asked again, it is not."""
    number = itertools.count(1)
    return lambda call: error(503, "SlowDown") if next(number) % 5 == 0 else None


def nothing(call: Call) -> Reply | None:
    return None


def plain(call: Call, body: bytes) -> bytes:
    return body


class Run:
    """One run of random events."""

    def __init__(self, world: World, source: Proxy, vault: Proxy, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311
        self.world, self.source, self.vault = world, source, vault
        self.oracle, self.points = Oracle(), list[Taken]()
        self._mirrors: list[tuple[float, float]] = []  # when each began and ended
        self.seen: Counter[str] = Counter()
        self.diary: list[str] = []
        self._last: set[str] = set()  # the keys of the newest point
        objects = dataclasses.replace(world.config.objects, endpoint_url=source.url, tags_days=TAGS_DAYS)
        held = dataclasses.replace(world.config.vault, endpoint_url=vault.url)
        self.opened = lambda: Opened(dataclasses.replace(world.config, objects=objects, vault=held))

    def note(self, what: str, more: str = "") -> None:
        self.seen[what] += 1
        self.diary.append(f"{what} {more}".strip())

    # What the application does.

    def _state(self, size: int) -> State:
        dice = self.dice
        headers = {"content-type": dice.choice(["text/plain", "image/jpeg", "application/x-own"])}
        if dice.random() < 0.5:
            headers["cache-control"] = f"max-age={dice.randrange(1, 5)}"
        for name, value in (("content-disposition", 'attachment; filename="a b.txt"'), ("content-language", "en")):
            headers.update({name: value} if dice.random() < 0.2 else {})
        for name in dice.sample(["own", "who", "snowball-auto-extract", "minio-x"], dice.randrange(3)):
            headers[f"x-amz-meta-{name}"] = dice.choice(["true", "one  two", "z"])
        return dice.randbytes(size), tuple(sorted(headers.items()))

    def write(self) -> None:
        key = self.dice.choice(KEYS)
        size = PART + 1 if self.dice.random() < 0.01 else self.dice.choice([0, 1, 20, 20, 20, 5000])
        body, headers = self._state(size)
        now = self.oracle.now().get(key)
        if now and self.dice.random() < 0.4:  # the same bytes, other headers; or other bytes of that length
            body = now[0] if self.dice.random() < 0.5 else self.dice.randbytes(len(now[0]))
        tags, began = self._tags(), time.time()
        if self.dice.random() < 0.2:
            tags = ()
            self._in_parts(key, body, dict(headers))
            self.note("upload in parts", repr(key))
        else:
            sent = {"x-amz-tagging": urlencode(tags, quote_via=quote)} if tags else {}
            self.world.put(key, body, {**dict(headers), **sent})
            self.note("write", repr(key))
        self.oracle.note(key, began, (body, headers), tags)

    def _tags(self) -> Tags:
        names = self.dice.sample(["t", "of whom", "ä/+=@"], self.dice.choice([0, 0, 1, 2]))
        return tuple(sorted((name, self.dice.choice(["1", "a b", "+=/:@._-", "\u65e5"])) for name in names))

    def tag(self) -> None:
        """Other tags in place: no new version, and no listing tells."""
        there = sorted(self.oracle.now())
        if there:
            key, tags, began = self.dice.choice(there), self._tags(), time.time()
            told = "".join(
                f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags
            )
            body = f"<Tagging><TagSet>{told}</TagSet></Tagging>".encode()
            self.world.source.ask("PUT", key, {"tagging": ""}, body=body, attempted="tag")
            self.oracle.note_tags(key, began, tags)
            self.note("tags changed in place", repr(key))

    def _in_parts(self, key: str, body: bytes, headers: dict[str, str]) -> None:
        ask, attempted = self.world.source.ask, "upload"
        begun = ask("POST", key, {"uploads": ""}, headers, attempted=attempted).body.decode()
        upload = re.findall("<UploadId>(.*?)</UploadId>", begun)[0]
        etag = ask("PUT", key, {"partNumber": "1", "uploadId": upload}, body=body, attempted=attempted).etag
        part = f"<Part><PartNumber>1</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        ask("POST", key, {"uploadId": upload}, body=document, attempted=attempted)

    def delete(self) -> None:
        there = sorted(self.oracle.now())
        if there:
            key, began = self.dice.choice(there), time.time()
            self.world.delete(key)
            self.oracle.note(key, began, None)
            self.note("delete", repr(key))

    # What Lifeboat does.

    def _quirks(self) -> set[str]:
        """Let both servers be others for a while."""
        dice = self.dice
        sources: dict[str, tuple[Fault, Edit]] = {
            "no quirk": (nothing, plain), "rgw_markers": (nothing, s3_quirks.rgw_markers),
            "rgw_echo": (nothing, s3_quirks.rgw_echo), "minio_hides": (nothing, s3_quirks.minio_hides),
            "minio_hides all": (nothing, s3_quirks.minio_hides_below("p/")),
            "versity_times": (nothing, s3_quirks.versity_times), "lacks some": (nothing, lacks_some(dice)),
            "clock +25": clock_of(25), "clock -25": clock_of(-25), "tired": (tired(), plain),
            "rgw_tags_of_parts": (s3_quirks.rgw_tags_of_parts(), plain),
        }  # fmt: skip
        vaults: dict[str, tuple[Fault, Edit]] = {
            "no quirk": (nothing, plain), "rgw_markers": (nothing, s3_quirks.rgw_markers),
            "minio_unpacks": (s3_quirks.minio_unpacks(self.vault.server), plain),
            "lacks some": (nothing, lacks_some(dice)), "forgets": (self._forgets(), plain),
            "tired": (tired(), plain), "rgw_tags_of_parts": (s3_quirks.rgw_tags_of_parts(), plain),
            "minio_hides": (nothing, s3_quirks.minio_hides),
        }  # fmt: skip
        chosen = set()
        for where, proxy, of in (("source", self.source, sources), ("vault", self.vault, vaults)):
            name = dice.choice(sorted(of)) if dice.random() < 0.6 else "no quirk"
            proxy.fault, proxy.edit = of[name]
            self.note(f"{where}: {name}")
            chosen.add(f"{where}: {name}")
        return chosen

    def _plain(self) -> None:
        self.source.fault = self.vault.fault = nothing
        self.source.edit = self.vault.edit = plain

    def _forgets(self) -> Fault:
        """It says that it keeps an object, with no ETag to believe, and does not."""
        key = self.dice.choice(KEYS)
        return lambda call: Reply() if call.method == "PUT" and call.key == key and not call.query else None

    def _killed(self, work: Callable[[], object], most: int) -> bool:
        """Do it in a process of its own, which is killed at one of its first requests; whether it was. The server
        carries that request out, and the answer is lost, or never hears of it."""
        at, lost = self.dice.randrange(1, most + 1), self.dice.random() < 0.5
        numbers, known, process = itertools.count(1), threading.Event(), list[int]()

        def killing(real: Fault) -> Fault:
            def fault(call: Call) -> Reply | None:
                if next(numbers) != at:
                    return real(call)
                known.wait()
                os.kill(process[0], signal.SIGKILL)
                return Reply(503) if lost else real(call)

            return fault

        for proxy in (self.source, self.vault):
            proxy.fault = killing(proxy.fault)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12: there are threads, which are the proxies'
            process.append(os.fork())
        if not process[0]:
            try:
                work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        known.set()
        watch = threading.Timer(HANGS, os.kill, (process[0], signal.SIGKILL))
        watch.start()
        status = os.waitpid(process[0], 0)[1]
        watch.cancel()
        assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), self.told("what was to be killed failed")
        return os.WIFSIGNALED(status)

    def _taken(self, doubts: Doubts) -> Manifest | None:
        """The backup of a mirror, if it made one: one that was killed may have published it already."""

        def mirror() -> Manifest:
            return take.take(self.opened(), log=self.diary.append, override=10**6, doubts=doubts)

        if self.dice.random() >= KILLED:
            return mirror()
        before = {manifest.id for manifest in self._backups()}
        if self._killed(mirror, 40):
            self.note("mirror, killed")
        return next((manifest for manifest in self._backups() if manifest.id not in before), None)

    def _backups(self) -> list[Manifest]:
        repo = repositories.from_settings(self.world.config.repository, {})
        return list(catalog.good(catalog.entries(repo, "objects", self.world.config.stack)))

    def mirror(self) -> None:
        time.sleep(1 - time.time() % 1)  # one database backup a second, also where the mirror of the last was killed
        quirks, at = self._quirks(), datetime.now(timezone.utc)
        self.world.database(at)
        if self.dice.random() < 0.5:
            if self.dice.random() < 0.5:
                time.sleep(1.1)  # in the next second: it must not be in the mirror of an instant
            self.write()
        doubts = Doubts(times="no instant is asked for") if self.dice.random() < 0.3 else TRUST
        now = time.time()
        try:
            manifest = self._taken(doubts)
        finally:
            self._mirrors.append((now, time.time()))
            self._plain()
        if manifest is None:
            return
        details = manifest.detailed(ObjectsDetails)
        self.note(f"mirror, {details.primary.consistency}", details.primary.why)
        # Times are whole seconds: of the second of the instant a mirror may have any state. How far a server's clock is
        # off is known to a second.
        unsure = 1.5 if any("clock" in name for name in quirks) else 0.0
        second = int(at.timestamp())
        since, until = (second - unsure, second + 1 + unsure) if details.primary.versioned else (now, time.time())
        out = {row.key for row in details.primary.unheld}
        self.seen["objects that are named as not held"] += len(out)
        allowed = {key: self.oracle.during(key, since, until) for key in KEYS if key not in out}
        for key, states in allowed.items():
            hidden = bool({"source: minio_hides", "source: minio_hides all"} & quirks) and key.startswith("p/")
            eventual = details.primary.consistency == EVENTUAL
            # What no listing tells, neither the source's nor the vault's, can be in no mirror.
            untold = key not in self._last or "vault: lacks some" in quirks
            if untold and (hidden or ("source: lacks some" in quirks and eventual)):
                states.add(None)
            # The past of what is hidden is not known: it is as it was found, and no snapshot says so.
            if hidden and eventual:
                states.update(self.oracle.during(key, since, time.time()))
        repo = repositories.from_settings(self.world.config.repository, {})
        self.points.append(Taken(Point(repo, manifest), allowed))
        self._last = {row.key for row in self.points[-1].point.entries()}
        self.check(self.points[-1])

    def prune(self) -> None:
        if not self.points:
            return
        while len(self.points) > KEPT:
            self.points.pop(self.dice.randrange(len(self.points) - 1))  # never the newest
        newest = datetime.now(timezone.utc) + timedelta(days=self.dice.choice([1, 31, 90]))
        self.vault.edit = self.dice.choice([plain, plain, lacks_some(self.dice), s3_quirks.versity_times])
        self.vault.fault = self.dice.choice([nothing, s3_quirks.rgw_refuses_several])
        if self.dice.random() < KILLED:
            killed = self._killed(lambda: self._prune(newest), 12)
            self.note("prune, killed" if killed else "prune")
        else:
            done = self._prune(newest)
            self.seen["versions that were pruned"] += done.versions
            self.note("prune", f"{done.versions} versions")
        self._plain()
        for taken in self.dice.sample(self.points, min(2, len(self.points))):
            self.check(taken)

    def _prune(self, newest: datetime) -> Pruned:
        return prune.prune(self.opened(), [taken.point for taken in self.points], newest, dry_run=False)

    def clean(self) -> None:
        """In the end nothing is left of what was killed: but for what is live, only versions that a point names."""
        vault = self.world.vault
        guard.sweep(vault, take.STALE, datetime.now(timezone.utc) + FAR)
        done = self._prune(datetime.now(timezone.utc) + FAR)
        assert not done.retained, self.told(str(done.retained))
        needed = {named for taken in self.points for named in taken.point.versions()}
        listed = list(bucket.versions(vault))
        left = [found for found in listed if not found.latest and (found.key, found.version) not in needed]
        old = {found.key for found in listed if not found.latest}
        left += [found for found in listed if found.latest and found.deleted and found.key not in old]
        assert not left, self.told(f"no point names these: {left}")
        assert list(bucket.uploads(vault)) == []

    def brought_back(self, target: Bucket) -> None:
        """The newest point, into an empty bucket; killed once, and then to its end."""

        def bring() -> back.CopiedBack:
            return back.copy_back(self.opened(), self.points[-1].point.entries(), target, log=self.diary.append)

        self._killed(bring, 20)
        self._plain()
        assert not bring().failed_count

    # What must be true.

    def check(self, taken: Taken) -> None:
        """Each object of the point is what it may be, and nothing else is in it."""
        rows = {row.key: row for row in taken.point.entries()}
        strange = {*rows} - {*taken.allowed}
        assert not strange, self.told(f"{taken.point.id}: {strange}")
        vault = self.world.vault
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(rows, pool.map(lambda row: held(vault, row), rows.values())))
        for key, allowed in taken.allowed.items():
            state = found.get(key)
            if state not in allowed:
                wanted = sorted(map(words, allowed))
                raise AssertionError(self.told(f"{taken.point.id}: {key!r} is {words(state)}, not {wanted}"))
        for key, row in rows.items():
            state = found[key]
            assert row.tags is not None and row.tags_as_of and state, self.told(f"{taken.point.id}: no tags of {key!r}")
            since = row.tags_as_of.timestamp()
            until = next(ended for began, ended in self._mirrors if int(began) <= since <= ended)
            may, are = self.oracle.tags(key, state, since, until), properties.pairs(row.tags)
            assert are in may, self.told(f"{taken.point.id}: {key!r} has the tags {are} as of {since}, not {may}")
        self.seen["objects that were looked at"] += len(taken.allowed)

    def told(self, what: str) -> str:
        return "\n".join([f"seed {SEED}: {what}", *self.diary[-60:]])

    def step(self) -> None:
        chosen = self.dice.choices([self.write, self.delete, self.tag, self.mirror, self.prune], [12, 4, 4, 4, 1])[0]
        chosen()


def held(where: Bucket, row: Listed) -> State | None:
    query = {"versionId": row.vault_version} if row.vault_version else {}
    try:
        answer = where.ask("GET", row.key, query, attempted="look")
    except LifeboatError as exc:
        return (str(exc).encode(), ())
    return answer.body, tuple(sorted(copier.object_headers(answer.headers).items()))


def words(state: State | None) -> str:
    return "gone" if state is None else f"{len(state[0])} bytes {state[0][:6].hex()} {dict(state[1])}"


def test_every_kept_point_gives_back_what_was_there(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "PART", PART)
    monkeypatch.setattr(bucket, "KEYS", 7)
    monkeypatch.setattr(signed, "_PAUSE", 0.01)
    monkeypatch.setattr(bucket, "_LARGER", 1)
    for module in (mirror_state, sweep):
        monkeypatch.setattr(module, "_DAY", 1)
    world = versioned(tmp_path, weed, make_bucket)
    deadline = time.monotonic() + SECONDS
    with faulty(weed, calls_itself=weed.kind) as source, faulty(weed, calls_itself=weed.kind) as vault:
        run = Run(world, source, vault, SEED)
        while time.monotonic() < deadline or len(run.points) < LEAST:
            run.step()
        run.clean()
        for taken in run.points:
            run.check(taken)
        last = run.points[-1]
        target = other(world, weed, make_bucket)
        run.brought_back(target)
        given = {version.key: held(target, Listed(version.key, 0)) for version in bucket.objects(target)}
        for row in last.point.entries():
            assert copier.tags(target, row.key) == [*properties.pairs(row.tags or "")], run.told(f"tags of {row.key!r}")
    print("\n".join(f"{count:6} {what}" for what, count in sorted(run.seen.items())))
    assert not {*given} - {*last.allowed}
    for key, allowed in last.allowed.items():
        assert given.get(key) in allowed, run.told(f"brought back: {key!r} is {words(given.get(key))}")
