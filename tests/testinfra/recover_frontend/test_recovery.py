"""Each way a frontend is lost, done for real, and recovered with one command.

What is served is asked with curl from the stack's host; what the remote holds is asked of git.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from faults import FAULTS, Fault, delete_site
from forge import FALLBACK, Forge
from support import APP, Host, Run, another_host_is_refused, cases, job, playbook

RECOVER = "lifeboat.dr.recover_frontend"
SECRETS = "/etc/lifeboat/shop.secrets.json"
# Run again at GitHub, and built here; planned without a confirmation before, too. tests/unit has each of the others.
THOROUGH = (FAULTS[0], FAULTS[-1])


def record(run: Run) -> Any:
    return run.result("record | Record the evidence")["record"]


def checks(run: Run) -> dict[str, str]:
    return {check["name"]: check["result"] for check in record(run)["checks"]}


@pytest.mark.parametrize("fault", cases(FAULTS, THOROUGH))
def test_fault_is_recovered(forge: Forge, served: str, fault: Fault) -> None:
    fault.inject(forge)
    newest = forge.history()
    before = forge.world()
    if fault in THOROUGH:
        another_host_is_refused(RECOVER)
        plan = job(RECOVER, method=fault.method)
        assert (plan.status, plan.changed) == (0, 0), plan.said
        assert f"run the same command again with -e confirm={APP}" in plan.said
        assert forge.world() == before

    recovery = job(RECOVER, confirm=APP, reason=f"test: {fault.name}", method=fault.method)
    assert recovery.status == 0, recovery.said
    assert f"the site http://www.shop.test/ is {fault.condition}: {fault.cause}" in recovery.said
    assert fault.finding in recovery.said
    done = recovery.result("(follow it on the host with journalctl -f)")
    assert done["mode"] == fault.mode, done["tried"]
    assert record(recovery)["verdict"] == "PASS"
    assert (checks(recovery)["site"], checks(recovery)["custom domain"]) == ("PASS", "PASS")

    history = forge.history()
    assert history[-len(newest) :] == newest, "no commit is lost"
    assert len(history) == len(newest) + fault.reverts
    wanted = history[0] if fault.reverts or not fault.back else served
    assert forge.served() == wanted == done["commit"]
    assert (forge.state()["pages"] or {})["cname"] == "www.shop.test"

    again = playbook(RECOVER, confirm=APP)
    assert (again.status, again.changed) == (0, 0), again.said
    assert "nothing to do" in again.said


def away(forge: Forge) -> Callable[[], object]:
    forge.service("stop")
    return lambda: forge.service("start")


def limited(forge: Forge) -> Callable[[], object]:
    forge.control("control", remaining=0, reset=9999999999)
    return lambda: forge.control("control")


def wrong_token(forge: Forge) -> Callable[[], object]:
    text = forge.app.run("cat", SECRETS)
    wrong = json.dumps({**json.loads(text), "github_token": "not-the-token"})
    forge.app.run("sh", "-c", f"cat > {SECRETS}", stdin=wrong)
    return lambda: forge.app.run("sh", "-c", f"cat > {SECRETS}", stdin=text)


# name, what happens, what is said, whether git still lets us in
CANNOT_ASK = (
    ("API down", away, "unreachable", True),
    ("token invalid", wrong_token, "token invalid", False),
    ("rate limit", limited, "rate limited", True),
)
ELSEWHERE = [pytest.param(*case, id=case[0].replace(" ", "-")) for case in CANNOT_ASK]


@pytest.mark.long
@pytest.mark.parametrize(("name", "inject", "said", "git"), ELSEWHERE)
def test_fault_is_recovered_elsewhere(
    forge: Forge, served: str, name: str, inject: Callable[[Forge], Callable[[], object]], said: str, git: bool
) -> None:
    """What can be done without GitHub is done: the site is up at the fallback, and nobody calls it recovered."""
    forge.app.run("sh", "-c", "rm -rf /srv/fallback/* /srv/fallback.quarantine_*; echo mine > /srv/fallback/note.txt")
    delete_site(forge)
    mend = inject(forge)
    try:
        run = playbook(RECOVER, confirm=APP, reason=f"test: {name}")
        assert run.status != 0
        assert said in run.said
        if git:
            assert (checks(run)["site"], checks(run)["fallback"]) == ("FAIL", "PASS")
            assert forge.served(FALLBACK) == served
            kept = run.result("(follow it on the host with journalctl -f)")["quarantine"]
            assert forge.app.run("cat", f"{kept}/note.txt") == "mine\n", "nothing is lost"
            again = playbook(RECOVER, confirm=APP)
            assert (again.status != 0, again.changed) == (True, 0), again.said
        else:
            assert "Mend that, then run it again" in run.said
            assert forge.app.run("ls", "/srv/fallback").split() == ["note.txt"]
    finally:
        mend()
    last = playbook(RECOVER, confirm=APP)
    assert last.status == 0, last.said
    assert record(last)["verdict"] == "PASS"
    assert forge.served() == served


@pytest.mark.long
def test_fault_is_recovered_while_github_asks_for_patience(forge: Forge, served: str) -> None:
    """A secondary rate limit with Retry-After is waited for."""
    delete_site(forge)
    forge.control("control", retry_after=2)
    run = playbook(RECOVER, confirm=APP)
    assert run.status == 0, run.said
    assert forge.served() == served


@pytest.mark.long
def test_healthy_is_left_alone(forge: Forge, served: str) -> None:
    before = forge.world()
    run = playbook(RECOVER, confirm=APP)
    assert (run.status, run.changed) == (0, 0), run.said
    assert "is healthy" in run.said and f"serves {served[:12]}" in run.said
    assert forge.world() == before


def test_check_mode_and_another_hosts_name_change_nothing(forge: Forge, served: str) -> None:
    delete_site(forge)
    before = forge.world()
    assert playbook(RECOVER, confirm=APP, check=True).status == 0
    other = playbook(RECOVER, confirm="test-app2")
    assert other.status != 0 and "names no host of this play" in other.said
    assert forge.world() == before


def test_no_secret_is_told(app1: Host, forge: Forge) -> None:
    token = json.loads(app1.run("cat", SECRETS))["github_token"]
    told = app1.run(
        "sh", "-c", "cat /var/lib/lifeboat/shop/evidence/* /var/log/lifeboat/* 2>/dev/null; journalctl -q --no-pager"
    )
    assert "recover frontend" in told or "frontend" in told
    assert token not in told
    assert app1.run("find", "/var/tmp", "-maxdepth", "1", "-name", "lifeboat-frontend-*") == "", "no clone is left"
