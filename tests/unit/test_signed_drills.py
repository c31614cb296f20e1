# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a drill carries the host's signature, and with pinned signers no other drill counts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema, store
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import history
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from builders import NOW, make_config
from evidence_world import drill, record, typed


class Host:
    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        for name in ("host", "attacker"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(root / name)]
            subprocess.run(words, check=True)

    def config(self, key: str = "host", *pinned: str, **more: Any) -> Config:
        """With its own key pinned, unless others are."""
        names = pinned or ("host",)
        signers = [{"name": name, "key": (self.root / f"{name}.pub").read_text(), **more} for name in names]
        return make_config(self.root, signing_key=str(self.root / key) if key else "", signers=signers)

    def keep(self, days: float, config: Config) -> tuple[Path, schema.Record]:
        return store.write(config, typed(drill(self.root, days)), say=self.said.append)

    def problems(self, config: Config) -> list[str]:
        return [kept.problem for kept in store.everything(config)]

    def passed(self, config: Config) -> bool:
        """Whether a drill of the database counts."""
        duties = history.judge(history.answer(config, store.everything(config)), NOW).duties
        return any(duty.last is not None for duty in duties if duty.name == "drill of the database")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_drill_is_signed_and_counts(host: Host, tmp_path: Path) -> None:
    path, kept = host.keep(9, host.config())
    assert kept.signature is not None
    assert (kept.signature.sequence, kept.signature.previous) == (1, "")
    _path, second = host.keep(2, host.config())
    assert second.signature is not None
    assert (second.signature.sequence, second.signature.previous) == (2, kept.seal)
    assert host.problems(host.config()) == ["", ""]
    assert host.passed(host.config())
    # An auditor needs no Lifeboat.
    body = json.loads(path.read_bytes())
    value = body["signature"].pop("value")
    for name in ("seal", "findings", "sign_off"):
        body.pop(name)
    (tmp_path / "allowed").write_text(f"host {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "sig").write_text(f"-----BEGIN SSH SIGNATURE-----\n{value}\n-----END SSH SIGNATURE-----\n")
    words = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "host", "-s", str(tmp_path / "sig")]
    message = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    words += ["-n", "lifeboat-drill@lifeboat.dr"]
    assert subprocess.run(words, input=message, capture_output=True, check=False).returncode == 0


def test_what_people_add_breaks_nothing(host: Host) -> None:
    _path, kept = host.keep(2, host.config())
    store.review(host.config(), kept.id, finding="slow", owner="mika", due="2026-12-31", now=NOW)
    assert host.problems(host.config()) == [""]


def planted(body: dict[str, Any]) -> None:
    body.pop("signature")


def altered(body: dict[str, Any]) -> None:
    body["seconds"] = 1.0


def of_another_time(body: dict[str, Any]) -> None:
    body["recorded_at"] = "2026-11-23T00:00:00.000Z"


def without_a_value(body: dict[str, Any]) -> None:
    body["signature"]["value"] = "AAAA"


PLANTED: dict[Callable[[dict[str, Any]], None], str] = {
    planted: "untrusted: it is not signed",
    altered: "untrusted: its signature is wrong",
    of_another_time: "untrusted: its signature is wrong",
    without_a_value: "untrusted: signature.value is not a signature as ssh-keygen writes it",
}


@pytest.mark.parametrize("attack", PLANTED, ids=lambda attack: attack.__name__)
def test_what_somebody_else_wrote_is_no_evidence_and_stays(
    host: Host, attack: Callable[[dict[str, Any]], None]
) -> None:
    path, _kept = host.keep(2, host.config())
    body = json.loads(path.read_bytes())
    attack(body)
    body["seal"] = schema.seal(body)
    data = (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()
    path.write_bytes(data)
    (problem,) = host.problems(host.config())
    assert problem.startswith(PLANTED[attack])
    assert not host.passed(host.config())
    assert path.read_bytes() == data
    bare = make_config(host.root)
    assert (host.problems(bare), host.passed(bare)) == ([""], True), "the control: where nobody is pinned it counts"


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [
        ("attacker", {}, "it is signed with a key that lifeboat_signers does not name"),
        ("host", {"documents": ["manifest"]}, "host may not sign this: drill"),
        ("host", {"expires": "2026-01-01T00:00:00+00:00"}, "host signed it, whose key expired 2026-01-01"),
        ("", {}, "it is not signed"),
    ],
)
def test_a_key_that_may_not(host: Host, key: str, changes: dict[str, Any], said: str) -> None:
    host.keep(2, host.config(key))
    (problem,) = host.problems(host.config("host", "host", **changes))
    assert problem.startswith(f"untrusted: {said}")


def test_a_drill_that_cannot_be_signed_is_kept_and_that_is_said(host: Host) -> None:
    (host.root / "host").chmod(0o644)
    path, kept = host.keep(2, host.config())
    assert (path.exists(), kept.signature) == (True, None)
    assert host.said[0].startswith("NOT SIGNED: ")
    assert "0600" in host.said[0]


def test_a_record_of_something_else_is_not_signed(host: Host) -> None:
    _path, kept = store.write(host.config(), typed(record(host.root)))
    assert kept.signature is None
    assert host.problems(host.config()) == [""]


def test_two_drills_of_one_second_are_signed_under_their_own_names(host: Host) -> None:
    first, second = host.keep(2, host.config())[1], host.keep(2, host.config())[1]
    assert second.id == f"{first.id}_2"
    assert host.problems(host.config()) == ["", ""]


def test_a_drill_that_is_missing_among_others_is_an_alarm(host: Host) -> None:
    """Who removes the record of a drill that failed leaves a gap, and what comes after it does not count."""
    config = host.config()
    first, second, third = (host.keep(days, config) for days in (9, 5, 2))
    assert host.problems(config) == ["", "", ""] and host.passed(config)
    second[0].unlink()
    assert host.problems(config) == ["", f"untrusted: 1 between {first[1].id} and it are missing, by their sequence"]
    assert host.problems(make_config(host.root)) == ["", ""], "the control: where nobody is pinned nobody asks"
    assert third[1].signature and third[1].signature.sequence == 3


def test_the_last_drill_that_is_gone_is_told_and_its_number_not_used_again(host: Host) -> None:
    config = host.config()
    first, second = host.keep(9, config)[1], host.keep(5, config)
    second[0].unlink()
    assert host.problems(config) == ["", "it is gone: this host signed it with sequence 2"]
    assert [kept.id for kept in store.everything(config)] == [first.id, second[1].id]
    assert history.answer(config, store.everything(config)), "and each face shows it"
    third = host.keep(2, config)[1]
    assert third.signature and (third.signature.sequence, third.signature.previous) == (3, second[1].seal)
    assert host.problems(config) == ["", f"untrusted: 1 between {first.id} and it are missing, by their sequence"]
    (host.root / "state" / "signed-drills.json").write_text("{")
    assert len(host.problems(config)) == 2, "what this host remembers may be lost"


def test_two_drills_with_one_sequence_are_no_choice(host: Host) -> None:
    """Both are the key's: one was signed by who should not have it, or when a record was out of the way."""
    config, memory = host.config(), host.root / "state" / "signed-drills.json"
    host.keep(9, config)
    path, second = host.keep(5, config)
    data = path.read_bytes()
    path.unlink()
    memory.unlink()
    third = host.keep(2, config)[1]
    path.write_bytes(data)
    said = f"untrusted: {' and '.join(sorted([second.id, third.id]))} have the same sequence"
    assert host.problems(config) == ["", said, said]


def test_a_drill_that_the_next_one_does_not_follow_is_no_choice(host: Host) -> None:
    config, memory = host.config(), host.root / "state" / "signed-drills.json"
    path, _first = host.keep(9, config)
    later, second = host.keep(5, config)
    data = later.read_bytes()
    for gone in (path, later, memory):
        gone.unlink()
    host.keep(8, config)
    later.write_bytes(data)
    said = f"untrusted: {second.id}, the drill after it, names another one as the one before"
    assert host.problems(config)[:2] == [said, ""]
