"""A stack is taken off its host, and deployed again: nothing was lost."""

from __future__ import annotations

from support import Host, playbook

UNDEPLOY = "lifeboat.dr.undeploy"
FILES = (
    "/etc/cron.d/lifeboat-shop",
    "/usr/local/bin/lifeboat",
    "/usr/share/bash-completion/completions/lifeboat",
    "/etc/logrotate.d/lifeboat",
    "/etc/lifeboat/shop.secrets.json",
    "/etc/lifeboat/shop.json",
)


def there(app1: Host) -> set[str]:
    return set(app1.run("sh", "-c", 'for file; do test ! -e "$file" || echo "$file"; done', "sh", *FILES).split())


def test_a_stack_is_taken_off_its_host_and_deployed_again(app1: Host) -> None:
    before = {backup["id"] for backup in app1.lifeboat("list")[1]}
    assert before and there(app1) == set(FILES)

    plan = playbook(UNDEPLOY, target=app1.name)
    assert (plan.status, plan.changed_tasks) == (0, ())
    assert f"-e confirm={app1.name}" in plan.result("Say how to carry this out")["msg"]
    other = playbook(UNDEPLOY, target=app1.name, confirm="vault1")
    assert other.status != 0
    checked = playbook(UNDEPLOY, check=True, target=app1.name, confirm=app1.name)
    assert (checked.status, len(checked.changed_tasks)) == (0, 1)
    assert there(app1) == set(FILES)

    done = playbook(UNDEPLOY, target=app1.name, confirm=app1.name)
    assert (done.status, done.changed_tasks, there(app1)) == (0, checked.changed_tasks, set())
    again = playbook(UNDEPLOY, target=app1.name, confirm=app1.name)
    assert (again.status, again.changed_tasks) == (0, ())
    assert again.result("Say what goes and what stays")["msg"][0].startswith("the stack shop is not deployed")

    assert playbook("lifeboat.dr.deploy", target=app1.name).status == 0
    assert there(app1) == set(FILES)
    assert {backup["id"] for backup in app1.lifeboat("list")[1]} == before
