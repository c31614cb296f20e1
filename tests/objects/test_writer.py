# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vault's writer can do although it should not: each act tried, on SeaweedFS and as MinIO does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import minio_admin
import pytest
import s3_quirks
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.admin import AbsentError
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import policy, service_accounts, vault, writer
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.writer import CAN, HELD, UNTRIED, Rights
from conftest import BUCKETS, PLAIN, POLICY, WRITER
from s3_faults import Call, Proxy, Reply, error, faulty
from s3_servers import JuiceFS, SeaweedFS, Server
from test_vault import make

OBJECTS = BUCKETS[0]
BLOCK = "change the bucket's public access block"
TAGS = "change the tags of versions"  # SeaweedFS lets that through, also where it is MinIO's stand-in
IN_TRIAL = {
    "delete versions", "overwrite versions", "erase by prefix", "unpack archives over versions", "back-date objects",
    "choose ETags", "change the tags of versions", "make objects public", "delete the bucket",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No trial leaves a bucket, nor changes one of those that were there."""
    servers = [request.getfixturevalue(name) for name in ("weed", "gateway") if name in request.fixturenames]
    before = [names(server) for server in servers]
    yield
    for server in servers:
        for name in BUCKETS:
            if name in names(server):
                s3_servers.wipe(server.client, name)
    assert [names(server) - {*BUCKETS} for server in servers] == [found - {*BUCKETS} for found in before]


def names(server: Server) -> set[str]:
    return {bucket["Name"] for bucket in server.client.list_buckets()["Buckets"]}


def tried(config: Config, server: Server | None = None) -> Rights:
    admin = {"access_key": server.access_key, "secret_key": server.secret_key} if server else {}
    return writer.attempt(config, **admin)


def settings(server: Server) -> list[Any]:
    client = server.client
    return [
        client.get_bucket_versioning(Bucket=OBJECTS)["Status"], client.get_bucket_tagging(Bucket=OBJECTS)["TagSet"],
        client.get_bucket_lifecycle_configuration(Bucket=OBJECTS)["Rules"],
        client.list_object_versions(Bucket=OBJECTS).get("Versions"),
    ]  # fmt: skip


def test_the_policy_holds_on_seaweedfs(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    weed.client.put_object(Bucket=OBJECTS, Key="a", Body=b"1")
    before = settings(weed)
    found = tried(make(weed, keys=WRITER), weed)
    assert found.those(CAN) == ["change the tags of versions"], found.acts
    assert {name: act for name, act in found.acts.items() if act.state == UNTRIED and name != BLOCK} == {
        "change the bucket's object lock": writer.Act(UNTRIED, "there is none to write back")
    }
    assert found.acts[BLOCK].state == UNTRIED, "SeaweedFS has none"
    assert settings(weed) == before


def test_the_policy_with_object_lock(weed: SeaweedFS) -> None:
    lock = {"object_lock": "GOVERNANCE", "lock_days": 1}
    try:
        vault.ensure(make(weed, repository_bucket="", **lock))
        found = tried(make(weed, keys=WRITER, repository_bucket="", **lock), weed)
        assert found.those(CAN, writer.DESTROYS) == [], found.acts
        assert found.acts["change the bucket's object lock"].state == HELD
    finally:
        s3_servers.wipe(weed.client, OBJECTS)


def test_what_seaweedfs_own_actions_let_through(weed: SeaweedFS) -> None:
    """Rights on the bucket are tried by writing back what is there; without a bucket for it the rest is not tried."""
    vault.ensure(make(weed))
    before = settings(weed)
    found = tried(make(weed, keys=PLAIN), weed)
    assert found.acts["change lifecycle rules"] == writer.Act(CAN, f"it wrote back the lifecycle of {OBJECTS}")
    assert {name for name, act in found.acts.items() if act.state == UNTRIED} >= IN_TRIAL
    assert "may not write to lifeboat-trial-*" in found.acts["delete versions"].detail
    assert found.summary.startswith("the writer's key can destroy what the vault holds: ")
    assert settings(weed) == before, "byte for byte what was there"


def test_an_administrators_key_as_the_writers(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    before = settings(weed)
    found = tried(make(weed))
    assert {"delete versions", "switch versioning off", "change lifecycle rules", "delete the bucket"} <= {
        *found.those(CAN, writer.DESTROYS)
    }
    assert settings(weed) == before


def test_without_an_administrator_only_what_is_safe_is_tried(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    found = tried(make(weed, keys=WRITER))
    assert {name for name, act in found.acts.items() if act.state == UNTRIED} >= IN_TRIAL
    assert "with an administrator's key" in found.acts["delete versions"].detail
    assert found.acts["change lifecycle rules"].state == HELD


def test_a_server_without_versions(gateway: JuiceFS) -> None:
    vault.ensure(make(gateway, objects_bucket=""))
    found = tried(make(gateway, objects_bucket=""))
    assert found.acts["delete versions"] == writer.Act(UNTRIED, "the server has no versions")


def on_minio(weed: SeaweedFS, written: dict[str, Any]) -> Rights:
    minio = s3_quirks.Minio(weed, WRITER["access_key"], written)
    with faulty(weed, minio.fault, minio.edit, calls_itself="MinIO") as proxy:
        config = make(weed, keys=WRITER)
        return tried(dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url)), weed)


def test_on_minio_the_plain_policy_lets_the_writer_destroy(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    found = on_minio(weed, POLICY)
    assert found.server == "MinIO"
    assert [name for name in found.those(CAN) if name != TAGS] == [
        "delete versions", "overwrite versions", "unpack archives over versions", "back-date objects", "choose ETags",
    ]  # fmt: skip
    assert found.acts["erase by prefix"].state == HELD, "the trial's bucket is made with object lock, as the vault's"
    assert found.acts["make further keys"].state == UNTRIED


def test_on_minio_its_own_policy_leaves_what_no_policy_prevents(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    found = on_minio(weed, policy.document(BUCKETS, "MinIO"))
    assert [name for name in found.those(CAN) if name != TAGS] == [
        "unpack archives over versions", "back-date objects", "choose ETags",
    ]  # fmt: skip
    assert found.summary == (
        "the writer's key can destroy what the vault holds: unpack archives over versions, back-date objects;"
        " the writer's key can also choose ETags, change the tags of versions;"
        " not tried with the writer's key: change the bucket's object lock, change the bucket's public access block,"
        " make further keys"
    )


def test_on_minio_the_vault_is_made_with_object_lock(weed: SeaweedFS) -> None:
    with faulty(weed, calls_itself="MinIO") as proxy:
        config = make(weed, repository_bucket="")
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))
        vault.ensure(config)
        assert vault.ensure(config) == []
        locked = weed.client.get_object_lock_configuration(Bucket=OBJECTS)["ObjectLockConfiguration"]
        assert locked == {"ObjectLockEnabled": "Enabled"}
        s3_servers.wipe(weed.client, OBJECTS)
        weed.client.create_bucket(Bucket=OBJECTS)
        told: list[str] = []
        vault.ensure(config, warn=told.append)
        assert any("made without object lock: on MinIO" in line for line in told)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_could_not_be_prepared_or_looked_at_was_not_tried(weed: SeaweedFS, method: str) -> None:
    """Ceph RGW: the bucket's owner may not read what another key wrote there. That refusal is not the writer's."""
    vault.ensure(make(weed))

    def fault(call: Call) -> Reply | None:
        looks = method == "GET" and "versionId" in call.query and call.access_key == weed.access_key
        prepares = method == "PUT" and call.key in ("overwrite", "delete", "unpack") and not call.query
        return error(403, "AccessDenied") if call.method == method and (looks or prepares) else None

    with faulty(weed, fault) as proxy:
        config = make(weed, keys=WRITER)
        found = tried(
            dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url)), weed
        )
    assert {found.acts[name].state for name in ("overwrite versions", "unpack archives over versions")} == {UNTRIED}


# What a server answers to each request about a version of the trial's -> how the act counts.
ANSWERS = [
    (403, "AccessDenied", HELD),
    (400, "AccessControlListNotSupported", HELD),
    (400, "InvalidRequest", UNTRIED),
    (400, "BadDigest", UNTRIED),
    (400, "MalformedXML", UNTRIED),
    (405, "MethodNotAllowed", UNTRIED),
    (501, "NotImplemented", UNTRIED),
    (403, "SignatureDoesNotMatch", UNTRIED),
]


@pytest.mark.parametrize(("status", "code", "state"), ANSWERS)
def test_only_a_refusal_of_the_right_says_that_the_key_may_not(
    weed: SeaweedFS, status: int, code: str, state: str
) -> None:
    """Any other answer may be due to the form of the request, and the next one may succeed."""
    vault.ensure(make(weed))

    def fault(call: Call) -> Reply | None:
        asked = call.method == "DELETE" and call.key == "delete" and call.access_key == WRITER["access_key"]
        return error(status, code) if asked and call.query else None

    with faulty(weed, fault) as proxy:
        config = make(weed, keys=WRITER)
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))
        assert tried(config, weed).acts["delete versions"].state == state


@pytest.mark.parametrize("how", ["with the object", "granted with the object", "of an object", "of the bucket"])
def test_what_a_key_makes_public_is_seen_without_a_key(weed: SeaweedFS, how: str) -> None:
    """Ceph RGW takes `x-amz-acl: public-read` from a key that may write no more than objects."""
    vault.ensure(make(weed))
    public: set[str] = set()

    def fault(call: Call) -> Reply | None:
        grants = "AllUsers" in call.headers.get("x-amz-grant-read", "")
        if call.method == "PUT" and (grants or call.headers.get("x-amz-acl") == "public-read"):
            said = "with the object" if not call.query else "of an object" if call.key else "of the bucket"
            said = f"granted {said}" if grants else said
            public.update({call.path.partition("?")[0]} if said == how else ())
            return Reply() if said == how else error(403, "AccessDenied")
        return Reply() if not call.access_key and call.path in public else None

    with faulty(weed, fault) as proxy:
        config = make(weed, keys=WRITER)
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))
        found = tried(config, weed)
    assert found.acts["make objects public"].state == CAN
    assert f" {how}: anybody can" in found.acts["make objects public"].detail
    assert "can also make objects public" in found.summary


def test_what_is_tried_is_written_such_that_the_vaults_owner_can_look_at_it(weed: SeaweedFS) -> None:
    """Ceph RGW: without `bucket-owner-full-control` the administrator cannot, and nothing could be seen."""
    vault.ensure(make(weed))
    shared: set[str] = set()

    def fault(call: Call) -> Reply | None:
        if call.method == "PUT" and call.headers.get("x-amz-acl") == "bucket-owner-full-control":
            shared.add(call.key)
        looks = call.method in ("GET", "HEAD") and call.key and call.access_key == weed.access_key
        return error(403, "AccessDenied") if looks and call.key not in shared else None

    with faulty(weed, fault) as proxy:
        config = make(weed, keys=WRITER)
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))
        found = tried(config, weed)
    assert {found.acts[act].state for act in ("delete versions", "overwrite versions", "erase by prefix")} == {HELD}


def test_a_key_that_may_not_say_so_writes_without(weed: SeaweedFS) -> None:
    """Amazon S3 wants a right of its own for that header."""
    vault.ensure(make(weed))
    with faulty(weed, lambda call: error(403, "AccessDenied") if "x-amz-acl" in call.headers else None) as proxy:
        config = make(weed, keys=WRITER)
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))
        found = tried(config, weed)
    assert (found.acts["delete versions"].state, found.acts["make objects public"].state) == (HELD, HELD)


OPEN = (
    "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>"
    "<BlockPublicPolicy>false</BlockPublicPolicy></PublicAccessBlockConfiguration>"
)
BLOCKED = [f"s3://{name}: block public access" for name in BUCKETS]


def closing(changes: list[str]) -> list[str]:
    """Of these changes, those that close a bucket to the public."""
    return [f"{line.split()[0]}: {line.rpartition(': ')[2]}" for line in changes if "public" in line]


def at(proxy: Proxy, config: Config) -> Config:
    return dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=proxy.url))


def test_public_access_to_the_vault_is_blocked_once(weed: SeaweedFS) -> None:
    server = s3_quirks.PublicAccessBlock(weed.access_key)
    with faulty(weed, server.fault) as proxy:
        config = at(proxy, make(weed))
        assert closing(vault.ensure(config, check=True)) == BLOCKED
        assert server.closed == {}, "check mode changes nothing"
        assert closing(vault.ensure(config)) == BLOCKED
        assert vault.ensure(config) == vault.ensure(config, check=True) == []
        assert set(server.closed) == {*BUCKETS}
        assert [document.count(">true</") for document in server.closed.values()] == [3, 3]
        assert not any("BlockPublicAcls" in document for document in server.closed.values()), "Ceph would take no write"
        server.closed[OBJECTS] = OPEN
        assert closing(vault.ensure(config, check=True)) == BLOCKED[:1], "somebody opened a part of it"
        assert closing(vault.ensure(config)) == BLOCKED[:1]
        assert server.closed[OBJECTS].count(">true</") == 4, "what somebody set stays"
        assert vault.ensure(config) == []
        del server.closed[OBJECTS]
        writers = at(proxy, make(weed, keys=WRITER))
        with pytest.raises(UsageError, match=r"block public access.*admin_access_key"):
            vault.ensure(writers)
        assert closing(vault.ensure(config)) == BLOCKED[:1]
        assert vault.ensure(writers) == [], "the writer may look"


def test_a_key_that_may_not_see_whether_it_is_blocked_is_told(weed: SeaweedFS) -> None:
    """As with a policy of before: nothing is changed, and nothing claimed."""
    vault.ensure(make(weed))
    told: list[str] = []
    with faulty(weed, lambda call: error(403, "AccessDenied") if "publicAccessBlock" in call.query else None) as proxy:
        assert vault.ensure(at(proxy, make(weed, keys=WRITER)), warn=told.append) == []
    assert sum("may not see whether public access to it is blocked" in line for line in told) == 2


@pytest.mark.parametrize("how", ["does not know it", "takes no other", "forgets it"])
def test_a_server_that_cannot_block_public_access_is_noted(weed: SeaweedFS, how: str) -> None:
    """Nothing changes then, each time, and no warning: objects are no more public for it."""
    vault.ensure(make(weed))
    server = s3_quirks.PublicAccessBlock(weed.access_key, keeps=False)

    def fault(call: Call) -> Reply | None:
        refuses = how == "takes no other" and call.method == "PUT" and "publicAccessBlock" in call.query
        return error(501, "NotImplemented") if refuses else server.fault(call)

    warned: list[str] = []
    noted: list[str] = []
    with faulty(weed, fault if how != "does not know it" else lambda call: None) as proxy:
        assert vault.ensure(at(proxy, make(weed)), warn=warned.append, note=noted.append) == []
    assert [line.partition(": ")[2][:42] for line in noted] == ["the server has no public access block: onl"] * 2
    assert not any("public" in line.lower() for line in warned)


def test_what_the_vault_blocks_is_blocked_where_it_is_tried(weed: SeaweedFS) -> None:
    """A key that may say `public-read` makes nothing public in a bucket that is closed: the trial's is closed too."""
    server = s3_quirks.PublicAccessBlock(weed.access_key)
    public: set[str] = set()

    def fault(call: Call) -> Reply | None:
        answer = server.fault(call)
        if answer is None and call.headers.get("x-amz-acl") == "public-read":
            public.add(call.path.partition("?")[0])
            return Reply()
        return Reply() if not call.access_key and call.path in public else answer

    with faulty(weed, fault) as proxy:
        vault.ensure(make(weed))
        config = at(proxy, make(weed, keys=WRITER))
        assert tried(config, weed).acts["make objects public"].state == CAN
        vault.ensure(at(proxy, make(weed)))
        found = tried(config, weed)
    assert found.acts["make objects public"] == writer.Act(HELD, "refused: AccessDenied")
    assert found.acts[BLOCK] == writer.Act(HELD, "refused: AccessDenied")


def test_a_writers_service_accounts_are_found() -> None:
    """On a stand-in of MinIO's admin API: of the vault's key, and of its user where it is a service account itself."""
    found = minio_admin.identities(
        users={"writer": "writer-secret-1", "webapp": "webappsecret1"},
        accounts={
            "BACKDOOR1": ("writer", "backdoor-secret-1"), "BACKDOOR2": ("writer", "backdoor-secret-2"),
            "websvcaccesskey01": ("webapp", "websvcsecret0001"),
        },
    )  # fmt: skip
    with s3_servers.running(lambda root: minio_admin.StandIn(root, minio_admin.keys([found]))) as server:
        server.state = {**found, "quotas": {}}
        admin = (server.access_key, server.secret_key)
        assert service_accounts.find(make(server, keys=WRITER), *admin) == ("BACKDOOR1", "BACKDOOR2")
        one = {"access_key": "BACKDOOR2", "secret_key": "backdoor-secret-2"}
        assert service_accounts.find(make(server, keys=one), *admin) == ("BACKDOOR1",), "it may have made that one"
        with pytest.raises(UsageError, match="the admin key may not do that"):
            service_accounts.find(make(server), "webapp", "webappsecret1")
        server.absent = {"export-iam"}
        with pytest.raises(AbsentError):
            service_accounts.find(make(server), *admin)
