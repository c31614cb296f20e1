"""What a deployment leaves on a host, and what its commands do there."""

from __future__ import annotations

import json

import pytest
from support import Host, identity, playbook

DEPLOY = "lifeboat.dr.deploy"
CRON = "/etc/cron.d/lifeboat-shop"


def mode(host: Host, path: str) -> str:
    return host.run("stat", "--format", "%a %U", path).strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/lifeboat", "700 root"),
        ("/etc/lifeboat/shop.json", "600 root"),
        ("/etc/lifeboat/shop.secrets.json", "600 root"),
        ("/var/lib/lifeboat/shop", "700 root"),
        ("/var/log/lifeboat", "700 root"),
        ("/backup", "700 root"),
        ("/usr/local/bin/lifeboat", "755 root"),
        (CRON, "644 root"),
    ],
)
def test_files_belong_to_root_alone(app1: Host, path: str, expected: str) -> None:
    assert mode(app1, path) == expected


def test_the_schedule_is_the_strategy(app1: Host) -> None:
    """Backup at 02:00, retention behind a good one, a proof every week."""
    lines = app1.run("cat", CRON).splitlines()
    assert "0 2 * * * root lifeboat backup database --stack shop --wait 3600 --prune >/dev/null" in lines
    assert "30 4 * * 0 root lifeboat verify --stack shop --level restore --wait 3600 >/dev/null" in lines
    assert app1.run("systemctl", "is-active", "cron").strip() == "active"
    assert app1.run("systemctl", "is-enabled", "cron").strip() == "enabled"


def test_no_secret_lies_in_the_open(app1: Host) -> None:
    """The stack's own passwords are nowhere in what Lifeboat wrote, its log and the journal included."""
    secrets = [
        line.partition("=")[2]
        for line in app1.run("cat", "/srv/shop/.env").splitlines()
        if "PASSWORD" in line or "SECRET" in line
    ]
    assert len(secrets) >= 3
    written = app1.run(
        "sh", "-c", "cat /etc/lifeboat/shop.json /etc/cron.d/lifeboat* /var/log/lifeboat/*.log; journalctl -q"
    )
    assert not [secret for secret in secrets if secret and secret in written]


def test_a_dry_run_tells_the_truth(app1: Host) -> None:
    """--check on a deployed host changes nothing and says so; with another schedule it says what it would change."""
    before = app1.world()
    same = playbook(DEPLOY, check=True)
    assert (same.status, same.changed) == (0, 0), (same.said, same.changed_tasks)
    other = playbook(DEPLOY, check=True, lifeboat_backup_schedule="15 3 * * *")
    assert (other.status, other.changed_tasks) == (
        0,
        ("lifeboat.dr.database_backup : schedule | Set the backup and its proof",),
    )
    assert app1.world() == before


@pytest.mark.long
def test_a_mistake_in_the_inventory_changes_nothing(app1: Host) -> None:
    before = app1.world()
    for settings, words in (
        (
            {"lifeboat_database": {"service": "nobody", "name": "shop"}},
            "the project has backend, db, frontend, objects",
        ),
        ({"lifeboat_database": {"service": "db", "name": "shoq"}}, "the server has"),
        ({"lifeboat_database": {"service": "db", "name": "shop", "user": "mallory"}}, "mallory"),
        (
            {"lifeboat_database": {"service": "db", "name": "shop", "format": "zip"}},
            "not one of directory, custom, plain",
        ),
        ({"lifeboat_runtime": {"project_directory": "/srv/nowhere"}}, "there is no such directory"),
        ({"lifeboat_retention": {"dayly_days": 3}}, "dayly_days"),
        ({"lifeboat_repositry": {"type": "local", "path": "/b"}}, "did you mean lifeboat_repository"),
        ({"lifeboat_application": {"checks": [{"url": "127.0.0.1:8000/"}]}}, "lifeboat_application.checks[0].url"),
        ({"lifeboat_application": {"checks": [{"url": "http://127.0.0.1:9/"}]}}, "does not answer"),
    ):
        run = playbook(DEPLOY, **settings)
        assert run.status != 0, settings
        assert words in run.said, (settings, run.said)
        assert "Traceback" not in run.said
        assert app1.world() == before, settings


@pytest.mark.long
def test_a_person_reads_the_same_on_the_host(app1: Host) -> None:
    """`docker exec app1 lifeboat list` and `… status`: every backup, its age, and whether it is proven."""
    only = ("list", "--component", "database")
    listed = app1.lifeboat(*only)[1]
    lines = app1.run("lifeboat", *only).splitlines()
    assert lines[0].split() == ["ID", "AGE", "SIZE", "DATABASES", "TABLES", "ROWS", "PROVEN"]
    assert [line.split()[0] for line in lines[1:]] == [backup["id"] for backup in listed]
    assert [" yes, " in line for line in lines[1:]] == [backup["proven"] for backup in listed]
    app1.run("lifeboat", "backup")
    app1.run("lifeboat", "verify")
    app1.run("lifeboat", "escrow", "--identity", "-", stdin=identity())
    assert app1.run("lifeboat", "status").splitlines()[-1] == "PASS  shop"


def test_the_status_turns_green_only_by_a_proof(app1: Host) -> None:
    """No backup: FAIL. A backup that nobody proved: COULD_NOT_VERIFY. Restored and compared: PASS."""
    room = "/var/tmp/green"
    settings = json.loads(app1.run("cat", "/etc/lifeboat/shop.json"))
    settings.update(repository={"type": "local", "path": f"{room}/backup"}, state_directory=f"{room}/state")
    # A stack with a bucket, or with a configuration to rebuild it from, is not green by its database alone.
    excluded = [{"name": "objectdata", "reason": "the database alone is looked at"}]
    settings.update(objects={}, vault={}, config={"enabled": False}, mounts={"exclude": excluded})
    app1.run("mkdir", "-p", f"{room}/backup")
    app1.run("sh", "-c", f"cat > {room}/shop.json", stdin=json.dumps(settings))
    here = ("--config-directory", room)
    try:
        code, status = app1.lifeboat("status", *here)
        assert (code, status["verdict"]) == (6, "FAIL"), status
        assert app1.lifeboat("backup", "database", *here)[0] == 0
        code, status = app1.lifeboat("status", *here)
        assert (code, status["verdict"]) == (3, "COULD_NOT_VERIFY"), status
        assert app1.lifeboat("verify", *here)[0] == 0
        code, status = app1.lifeboat("status", *here)
        assert (code, status["verdict"]) == (0, "PASS"), status
    finally:
        app1.run("rm", "-rf", room)


@pytest.mark.long
def test_proving_again_changes_nothing(app1: Host) -> None:
    first = playbook("lifeboat.dr.verify", level="archive")
    assert first.status == 0, first.said
    again = playbook("lifeboat.dr.verify", level="archive")
    assert (again.status, again.changed) == (0, 0), again.said


def test_a_second_run_waits_for_the_lock(app1: Host) -> None:
    lock, held = "/run/lifeboat/lifeboat-shop.lock", "/run/lifeboat/held-by-a-test"
    hold = f"while [ -e {held} ]; do sleep 0.2; done"
    app1.run("sh", "-c", f"touch {held}; flock {lock} sh -c '{hold}' >/dev/null 2>&1 &")
    app1.run("sh", "-c", f"while flock --nonblock {lock} true; do sleep 0.2; done")
    code, refused = app1.lifeboat("backup", "database")
    assert (code, refused["error"]["attempted"]) == (4, "take the lock")
    app1.run("sh", "-c", f"(sleep 5; rm {held}) >/dev/null 2>&1 &")
    code, taken = app1.lifeboat("backup", "database", "--wait", "300")
    assert code == 0, taken


@pytest.mark.long
def test_retention_plans_and_deletes_nothing_young(app1: Host) -> None:
    plan = playbook("lifeboat.dr.prune", check=True)
    assert (plan.status, plan.changed) == (0, 0), plan.said
    known = [backup["id"] for backup in app1.lifeboat("list")[1]]
    assert playbook("lifeboat.dr.prune").changed == 0
    assert [backup["id"] for backup in app1.lifeboat("list")[1]] == known


@pytest.mark.long
def test_a_dry_run_on_a_fresh_host_tells_the_truth(app1: Host) -> None:
    """On a host that has nothing of Lifeboat's, --check changes nothing and names exactly what the deployment does."""
    app1.run(
        "rm", "-r", "/etc/lifeboat", "/var/lib/lifeboat", "/var/log/lifeboat", "/backup", CRON,
        "/etc/logrotate.d/lifeboat", "/usr/local/bin/lifeboat",
        "/usr/share/bash-completion/completions/lifeboat",
    )  # fmt: skip
    before = app1.world()
    dry = playbook(DEPLOY, check=True)
    assert dry.status == 0, dry.said
    assert app1.world() == before
    real = playbook(DEPLOY)
    assert real.status == 0, real.said
    assert dry.changed_tasks == real.changed_tasks
    assert len(real.changed_tasks) == 3
