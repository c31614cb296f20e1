# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every kind of step of a store's recovery, then the same command: it ends right, looked at with boto3."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killed_recovery
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LockedError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Reply, faulty
from s3_servers import SeaweedFS, seaweedfs, wipe
from test_buckets import OTHERS, Many
from test_recover import KEYS

COPIES = [1, 2, 5, 8, 12, 20, 27, 31]  # before the n-th object that comes back
STATES = [1, 2, 3, 4, 5]  # before the n-th change of the host's own state


class Killed(Many):
    """A store that is not the stack's own to start and stop, and a recovery of it that is killed."""

    def kill(self, *, copy: int = 0, state: int = 0, **request: Any) -> int:
        """Start the recovery, kill it before that step; returns how many objects it brought back until then."""
        put = 0

        def fault(call: Call) -> Reply | None:
            nonlocal put
            into = call.path.strip("/")
            put += call.method == "PUT" and "/" in into and "?" not in into and "lifeboat-check" not in into
            if copy and put >= copy:
                child.kill()
                return Reply(503, "")
            return None

        with faulty(self.source, fault) as proxy:
            objects = dataclasses.replace(self.config.objects, endpoint_url=proxy.url)
            argv = [sys.executable, killed_recovery.__file__, str(state)]
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)})
            child.communicate(pickle.dumps((dataclasses.replace(self.config, objects=objects), request)), timeout=120)
        return put

    def again(self, **request: Any) -> list[dict[str, Any]]:
        """The same command until it says that there is nothing to do; at most as often as an operator would."""
        found = []
        for _ in range(4):
            found.append(killed_recovery.recover(self.config, self.said.append, **request))
            (self.root / "state" / recovery_state.STOPPED).unlink(missing_ok=True)  # as the reopen does
            if not found[-1]["needed"]:
                break
        return found


@pytest.fixture
def case(tmp_path: Path, weed: SeaweedFS, make_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    with seaweedfs() as server:
        server.client.create_bucket(Bucket="uploads")
        case = Killed(tmp_path, server, "uploads", weed, make_bucket(weed), False)
        case.monkeypatch = monkeypatch
        monkeypatch.setattr(runtime, "connect", lambda config: killed_recovery.Elsewhere())
        case.fill()
        case.settings(buckets=(*OTHERS,), change_limit=90)
        case.places(*OTHERS)
        yield case


def lose(case: Killed) -> None:
    """Everything of two buckets, and some of a third."""
    for bucket, keys in (("uploads", [*KEYS, "big"]), ("docs", [f"same/{number}" for number in range(8)])):
        for key in keys:
            case.client.delete_object(Bucket=bucket, Key=key)
    wipe(case.client, "ruled")


OFTEN = (("copy", 5), ("copy", 27), ("state", 2), ("state", 4))  # test_kill_everywhere_objects kills at other steps
STEPS = [
    pytest.param(kind, number, marks=[] if (kind, number) in OFTEN else [pytest.mark.long])
    for kind, numbers in (("copy", COPIES), ("state", STATES))
    for number in numbers
]


@pytest.mark.parametrize(("kind", "number"), STEPS)
def test_a_killed_recovery_is_continued(case: Killed, kind: str, number: int) -> None:
    """While it has not ended no mirror is made of what is there; the same command brings back all that it began with.

    Then a mirror removes nothing from the vault.
    """
    case.take()
    expected = case.every()
    lose(case)
    case.kill(**{kind: number})
    marked = (case.root / "state" / recovery_state.RECOVERING_OBJECTS).exists()
    if case.every() != expected and marked:
        with pytest.raises(LockedError, match="not ended"):
            take.take(Opened(case.config), log=case.said.append)
    runs = case.again()
    assert not runs[-1]["needed"], runs[-1]["why"]
    assert case.every() == expected
    assert not (case.root / "state" / recovery_state.RECOVERING_OBJECTS).exists()
    details = case.take().detailed(ObjectsDetails)
    assert [(held.name, held.removed) for held in details.buckets if held.removed] == []
