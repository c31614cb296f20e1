# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identities of an object store: read strictly, compared as sets, never told, kept through a bad day."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import files as configuration_files
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import identities as mirror_identities
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import identities as objects_identities
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import preflight, status_checks
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldIdentities
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import identities
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import identities as stack_identities
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.identities import Snapshot
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, publish_config, publish_objects, settings, store
from config_world import World

SECRETS = ("webappsecret1", "websvcsecret0001")
# As recorded from MinIO, February 2026.
EXPORT: dict[str, Any] = {
    "policies": {
        "readonly": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"]}]},
        "uploads-rw": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::uploads/*"]},
                {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::uploads"]},
            ],
        },
    },
    "users": {"webapp": {"secretKey": SECRETS[0], "status": "enabled"}},
    "groups": {
        "editors": {
            "version": 1, "status": "enabled", "members": ["webapp"], "updatedAt": "2026-11-25T17:52:52.230087521Z",
        }
    },
    "svcaccts": {
        "websvcaccesskey01": {
            "parent": "webapp", "accessKey": "websvcaccesskey01", "secretKey": SECRETS[1], "groups": None,
            "claims": {"accessKey": "websvcaccesskey01", "parent": "webapp", "sa-policy": "inherited-policy"},
            "sessionPolicy": None, "status": "on", "name": "", "description": "", "expiration": "1970-01-01T00:00:00Z",
        }
    },
    "user_mappings": {
        "webapp": {"version": 0, "policy": "uploads-rw,readonly", "updatedAt": "2026-11-25T17:52:51.818589244Z"}
    },
    "group_mappings": {"editors": {"version": 0, "policy": "readonly", "updatedAt": "2026-11-25T17:52:52.645723972Z"}},
    "stsuser_mappings": {},
}  # fmt: skip
WEED = {
    "identities": [
        {
            "name": "webapp", "credentials": [{"accessKey": "webkey", "secretKey": SECRETS[0]}],
            "actions": ["Read:uploads", "Write:uploads"], "policyNames": ["rw"],
        }
    ],
    "policies": [{"name": "rw", "content": '{"Statement": [{"Action": ["s3:Put*", "s3:Get*"]}]}'}],
}  # fmt: skip


def zipped(found: Mapping[str, Any] = EXPORT, **members: Any) -> bytes:
    files = {f"iam-assets/{name}.json": json.dumps(value) for name, value in found.items()}
    return identities.packed({name: text.encode() for name, text in {**files, **members}.items()})


def kept(found: Mapping[str, Any] = EXPORT, **changes: Any) -> Snapshot:
    return Snapshot("minio", {"iam.zip": zipped(found)}, **{"backup": "objects_1", **changes})


def changed(path: str, value: Any) -> dict[str, Any]:
    """The export with one field another."""
    found = json.loads(json.dumps(EXPORT))
    *above, last = path.split("/")
    place = found
    for name in above:
        place = place[int(name) if isinstance(place, list) else name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return dict(found)


# --- what a server says ---


def test_the_recorded_export() -> None:
    form = identities.of_minio(zipped())
    assert set(form) == {
        "policy readonly", "policy uploads-rw", "user webapp", "group editors", "access key websvcaccesskey01",
    }  # fmt: skip
    assert form["user webapp"]["policies"] == '["readonly","uploads-rw"]'
    assert (form["access key websvcaccesskey01"]["parent"], form["group editors"]["members"]) == ("webapp", '"webapp"')
    assert str(identities.counts(form)) == "1 user, 1 group, 1 policy, 1 access key", "readonly is built in"
    assert not any(secret in str(form) for secret in SECRETS)


STATEMENTS = EXPORT["policies"]["uploads-rw"]["Statement"]
SAME: dict[str, dict[str, Any]] = {
    "statements in another order": changed("policies/uploads-rw/Statement", STATEMENTS[::-1]),
    "actions in another order": changed("policies/uploads-rw/Statement/0/Action", ["s3:PutObject", "s3:GetObject"]),
    "one action without its list": changed("policies/readonly/Statement/0/Action", "s3:GetObject"),
    "mappings in another order": changed("user_mappings/webapp/policy", "readonly, uploads-rw"),
    "another time": changed("groups/editors/updatedAt", "2027-01-01T00:00:00Z"),
    "no expiration at all": changed("svcaccts/websvcaccesskey01/expiration", None),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same(name: str) -> None:
    before, after = identities.of_minio(zipped()), identities.of_minio(zipped(SAME[name]))
    assert (identities.differences(before, after), identities.digest(before)) == ([], identities.digest(after))


DIFFERENT = [
    ("users/webapp/secretKey", "another", "the user webapp has another secret key"),
    ("users/webapp/status", "disabled", "the user webapp has another status"),
    ("user_mappings/webapp/policy", "readonly", "the user webapp has another policies"),
    ("groups/editors/members", [], "the group editors has another members"),
    ("svcaccts/websvcaccesskey01/parent", "root", "the access key websvcaccesskey01 has another parent"),
    ("svcaccts/websvcaccesskey01/status", "off", "the access key websvcaccesskey01 has another status"),
    ("svcaccts/websvcaccesskey01/expiration", "2030-01-01T00:00:00Z", "the access key websvcaccesskey01 has another"),
    ("svcaccts/websvcaccesskey01", None, "the access key websvcaccesskey01 is missing"),
    ("policies/uploads-rw/Statement/0/Effect", "Deny", "the policy uploads-rw has another document"),
    ("policies/uploads-rw/Statement/0/Action", ["s3:*"], "the policy uploads-rw has another document"),
]


@pytest.mark.parametrize(("path", "value", "words"), DIFFERENT, ids=[f"{path} {value}" for path, value, _ in DIFFERENT])
def test_what_differs_is_named_and_not_shown(path: str, value: Any, words: str) -> None:
    before, after = identities.of_minio(zipped()), identities.of_minio(zipped(changed(path, value)))
    (line,) = identities.differences(before, after)
    assert line.startswith(words)
    assert "secretKey" in path or identities.digest(before) != identities.digest(after)


def test_a_digest_says_nothing_of_a_secret() -> None:
    other = identities.of_minio(zipped(changed("users/webapp/secretKey", "another")))
    assert identities.digest(other) == identities.digest(identities.of_minio(zipped()))


def test_what_an_import_would_change_is_left_out() -> None:
    found = changed("svcaccts/websvcaccesskey01/status", "off")
    found["svcaccts"]["old"] = {**EXPORT["svcaccts"]["websvcaccesskey01"], "expiration": "2026-01-01T00:00:00.5Z"}
    found["svcaccts"]["young"] = {**EXPORT["svcaccts"]["websvcaccesskey01"], "expiration": "2030-01-01T00:00:00Z"}
    left = identities.not_carried(identities.of_minio(zipped(found)), datetime(2026, 11, 26, tzinfo=timezone.utc))
    assert left == {
        "access key websvcaccesskey01": "it is disabled, and an import would enable it",
        "access key old": "it expired 2026-01-01T00:00:00",
    }
    rest = identities.of_minio(identities.importable(zipped(found), without={"websvcaccesskey01", "old", "webapp"}))
    assert {name for name in rest if name.startswith("access key")} == {"access key young"}
    assert "secret key" not in rest["user webapp"], "its mapping stays, for the one who has that name"


def test_the_file_of_seaweedfs() -> None:
    form = identities.of_seaweedfs(json.dumps(WEED).encode())
    assert set(form) == {"user webapp", "access key webkey", "policy rw"}
    assert str(identities.counts(form)) == "1 user, 0 groups, 1 policy, 1 access key"
    other = json.loads(json.dumps(WEED))
    other["identities"][0]["actions"].reverse()
    other["policies"][0]["content"] = '{"Statement":[{"Action":["s3:Get*","s3:Put*"]}]}'
    assert identities.differences(form, identities.of_seaweedfs(json.dumps(other).encode())) == []
    other["identities"][0]["credentials"][0]["secretKey"] = "another"
    (line,) = identities.differences(form, identities.of_seaweedfs(json.dumps(other).encode()))
    assert line == "the access key webkey has another secret key"


def test_quotas_and_what_a_server_would_lack() -> None:
    metadata = identities.packed({
        "uploads/quota.json": b'{"quota":5368709120,"quotatype":"hard"}', "empty/quota.json": b'{"quota":0}',
        "uploads/notification.xml": b"<NotificationConfiguration><QueueConfiguration></QueueConfiguration>"
        b"</NotificationConfiguration>",
        "empty/notification.xml": b"<NotificationConfiguration></NotificationConfiguration>",
        "cold/lifecycle.xml": b"<LifecycleConfiguration><Rule><Transition></Transition></Rule>",
    })  # fmt: skip
    assert list(identities.quotas(metadata)) == ["uploads"]
    assert identities.uses(metadata, {}) == ["tiers (bucket cold)", "notification targets (bucket uploads)"]


@pytest.mark.parametrize(
    ("arn", "environment", "lacking"),
    [
        ("arn:minio:sqs::PRIMARY:webhook", {"MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY": "on"}, False),
        ("arn:minio:sqs:eu:PRIMARY:webhook", {"MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY": "true"}, False),
        ("arn:minio:sqs::_:postgresql", {"MINIO_NOTIFY_POSTGRES_ENABLE": "on"}, False),
        ("arn:minio:sqs::PRIMARY:webhook", {"MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY": "off"}, True),
        ("arn:minio:sqs::PRIMARY:webhook", {"MINIO_NOTIFY_WEBHOOK_ENABLE_OTHER": "on"}, True),
        ("arn:minio:sqs::PRIMARY:kafka", {"MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY": "on"}, True),
        ("arn:aws:sns:eu-west-1:1:x", {"MINIO_NOTIFY_WEBHOOK_ENABLE_PRIMARY": "on"}, True),
    ],
)
def test_a_notification_target_of_the_environment_comes_back_with_it(
    arn: str, environment: dict[str, str], lacking: bool
) -> None:
    """It was `in no backup`, and so COULD_NOT_VERIFY for ever."""
    document = (
        "<NotificationConfiguration><QueueConfiguration><Id>1</Id><Event>s3:ObjectCreated:*</Event>"
        f"<Queue>{arn}</Queue></QueueConfiguration></NotificationConfiguration>"
    )
    metadata = identities.packed({"uploads/notification.xml": document.encode()})
    assert identities.uses(metadata, environment) == (["notification targets (bucket uploads)"] if lacking else [])


# --- its writer is hostile ---


def twice() -> bytes:
    buffer = io.BytesIO(zipped())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("iam-assets/users.json", "{}")
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("policies", "users", "groups", "svcaccts"):
            archive.writestr(f"iam-assets/{name}.json", b" " * (identities.LIMIT // 3))
    return buffer.getvalue()


def liar() -> bytes:
    """It says of a member that it is small."""
    data = bytearray(zipped(changed("users", {"a": {"secretKey": "x" * 1000, "status": ""}})))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 3)
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a path": (lambda: zipped(**{"iam-assets/../../etc/passwd": "x"}), "does not belong there"),
    "an absolute path": (lambda: zipped(**{"/etc/passwd": "x"}), "does not belong there"),
    "another member": (lambda: zipped(**{"iam-assets/other.json": "{}"}), "does not belong there"),
    "a member twice": (twice, "is in it twice"),
    "too much when unpacked": (bomb, "unpacks to more than"),
    "too large": (lambda: b"x" * (identities.LIMIT + 1), "is too large"),
    "too many members": (lambda: zipped() + b"PK\x01\x02" * 100_001, "is too large"),
    "a wrong size": (liar, "cut or damaged"),
    "cut": (lambda: zipped()[:-40], "cut or damaged"),
    "nothing": (lambda: b"", "cut or damaged"),
    "a page": (lambda: b"<html>", "cut or damaged"),
    "a file less": (lambda: zipped(changed("svcaccts", None)), "lacks svcaccts.json"),
    "no JSON": (lambda: zipped(**{"iam-assets/stsgroup_mappings.json": "{"}), "not JSON"),
    "a key twice": (lambda: zipped(**{"iam-assets/stsgroup_mappings.json": '{"a":{},"a":{}}'}), "given twice"),
    "deep": (lambda: zipped(changed("policies/deep", json.loads("[" * 50 + "]" * 50))), "nested"),
    "a list": (lambda: zipped(changed("users", [])), "users.json"),
    "a number": (lambda: zipped(changed("users/webapp", 1)), "users.json: webapp"),
    "a secret that is none": (lambda: zipped(changed("users/webapp/secretKey", 1)), "webapp.secretKey"),
    "members of no type": (lambda: zipped(changed("groups/editors/members", "webapp")), "editors.members"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_export_is_refused(what: str) -> None:
    make, words = HOSTILE[what]
    identities.of_minio(zipped())
    with pytest.raises(IntegrityError, match=words) as caught:
        identities.of_minio(make())
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "name", ["../x/quota.json", "uploads/../quota.json", "Uploads/quota.json", "uploads/x.sh", "uploads/a/quota.json"]
)
def test_hostile_metadata_is_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="does not belong there"):
        identities.quotas(identities.packed({name: b"{}"}))


# --- the copy on this host ---


def make(root: Path, api: str = "minio", **admin: str) -> config.Config:
    objects = {**BUCKET["objects"], "service": "objects", "admin": {"api": api, **admin} if api else {}}
    keys = {"objects_access_key": "websvcaccesskey01", "objects_secret_key": SECRETS[1]}
    keys |= {"objects_admin_access_key": "rootkey", "objects_admin_secret_key": "rootsecret-1"}
    return config.from_mapping(settings(root, **{**BUCKET, "objects": objects}), keys)


class Fake(stack_identities.Store):
    """A store of dictionaries. lossy: what an import makes of what it is given."""

    def __init__(self, found: Mapping[str, Any] = EXPORT) -> None:
        self.found, self.error = kept(found), LifeboatError("x", "y", "")
        self.lossy: Callable[[Snapshot], Snapshot] = lambda given: given
        self.left_out: dict[str, str] = {}
        self.diary: list[str] = []

    def export(self) -> Snapshot:
        if self.error.cause:
            raise self.error
        return self.found

    def put(self, kept: Snapshot, log: Any) -> None:
        self.diary.append("put")
        self.found = self.lossy(kept)

    def put_quotas(self, kept: Snapshot, log: Any) -> None:
        self.diary.append("quotas")

    def exceptions(self, kept: Snapshot) -> Mapping[str, str]:
        return self.left_out


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    server = Fake()
    monkeypatch.setattr(stack_identities, "store_of", lambda run: server)
    return server


def test_the_copy_is_what_was_written(tmp_path: Path) -> None:
    made, one = make(tmp_path), kept(uses=("tiers (bucket cold)",))
    assert stack_identities.newest(made) is None
    one = replace(one, taken_at=NOW)
    stack_identities.keep(made, one)
    assert stack_identities.newest(made) == one
    assert made.identities.stat().st_mode & 0o777 == 0o600
    assert not any(secret in repr(one) for secret in SECRETS)
    made.identities.write_bytes(identities.packed({"about.json": b"{}"}))
    with pytest.raises(IntegrityError, match="lacks"):
        stack_identities.newest(made)
    made.identities.write_bytes(one.to_bytes()[:50])
    with pytest.raises(IntegrityError, match="cut or damaged"):
        stack_identities.newest(made)


def test_without_an_admin_key_nothing_is_asked(tmp_path: Path) -> None:
    assert stack_identities.store_of(Opened(make(tmp_path, ""))) is None
    assert stack_identities.store_of(Opened(make(tmp_path, "elsewhere"))) is None
    bare = replace(make(tmp_path), secrets={"objects_admin_access_key": "rootkey"})
    with pytest.raises(UsageError, match="objects_admin_access_key and objects_admin_secret_key are not both set"):
        stack_identities.store_of(Opened(bare))


@pytest.mark.parametrize("admin", [{"api": "seaweedfs"}, {"api": "minio", "identities_file": "/s3.json"},
                                   {"api": "seaweedfs", "identities_file": "s3.json"}, {"api": "garage"}])  # fmt: skip
def test_settings_that_cannot_be(tmp_path: Path, admin: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"objects\.admin"):
        make(tmp_path, **admin)


def test_a_file_that_is_gone_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "s3.json"
    file.parent.mkdir()
    file.write_text(json.dumps(WEED))
    run, said = Opened(make(tmp_path, "seaweedfs", identities_file=str(file))), list[str]()
    held = mirror_identities.take(run, "objects_1", override=False, log=said.append)
    assert held and (held.users, held.access_keys, held.problem) == (1, 1, "")
    file.unlink()
    file.parent.rmdir()
    brought = objects_identities.bring(run, log=said.append)
    assert (brought.imported, json.loads(file.read_text()), file.stat().st_mode & 0o777) == (True, WEED, 0o600)
    (check,) = objects_identities.checks(run, brought, fresh=True, created=False, log=said.append)
    assert (check.result, check.detail) == (PASS, "1 user, 0 groups, 1 policy, 1 access key, as with objects_1")
    file.write_text("mine")
    assert objects_identities.bring(run, log=said.append).error
    assert file.read_text() == "mine"


# --- taking, giving back ---


def take(root: Path, *, api: str = "minio", override: bool = False) -> Any:
    said: list[str] = []
    found = mirror_identities.take(Opened(make(root, api)), "objects_2", override=override, log=said.append)
    assert not any(secret in "".join(said) for secret in SECRETS)
    return found


def test_what_a_backup_says_of_them(tmp_path: Path, fake: Fake) -> None:
    assert take(tmp_path, api="") is None
    assert take(tmp_path, api="elsewhere") == HeldIdentities("elsewhere")
    digest = identities.digest(fake.found.form)
    assert take(tmp_path) == HeldIdentities("minio", digest, users=1, groups=1, policies=1, access_keys=1)
    fake.error = UsageError("export", "x", "the admin key may not do that", "")
    assert take(tmp_path) == HeldIdentities("minio", problem="the admin key may not do that")
    copy = stack_identities.newest(make(tmp_path))
    assert copy and copy.backup == "objects_2", "the copy of before stays"


def test_a_store_without_them_does_not_replace_the_copy(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(changed("svcaccts", {}))
    assert "the application's own key among them" in take(tmp_path).problem
    copy = stack_identities.newest(make(tmp_path))
    assert copy and "access key websvcaccesskey01" in copy.form
    assert take(tmp_path, override=True).problem == ""
    copy = stack_identities.newest(make(tmp_path))
    assert copy and "access key websvcaccesskey01" not in copy.form


def recovered(
    root: Path, fake: Fake, *, fresh: bool = False, made: bool = False, api: str = "minio"
) -> tuple[str, str]:
    run = Opened(make(root, api))
    brought = objects_identities.bring(run, log=lambda _: None)
    found = objects_identities.checks(run, brought, fresh=fresh, created=made, log=lambda _: None)
    return (found[0].result, found[0].detail) if found else ("", "")


NOBODY = {**{name: {} for name in EXPORT}, "policies": {"readonly": EXPORT["policies"]["readonly"]}}
COUNTED = "1 user, 1 group, 1 policy, 1 access key, as with objects_2"


def test_a_store_that_lost_them_is_given_them(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(NOBODY)
    assert recovered(tmp_path, fake) == (PASS, COUNTED)
    assert fake.diary == ["put", "quotas"]
    fake.found = kept(changed("users/new", {"secretKey": "x", "status": "enabled"}))
    assert recovered(tmp_path, fake) == (PASS, f"{COUNTED}; the store has others too: user new")
    assert fake.diary == ["put", "quotas"], "nothing is given to a store that has its own"


def test_what_came_back_otherwise_is_a_failure(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(NOBODY)
    fake.lossy = lambda given: kept(changed("users/webapp/secretKey", "another"))
    assert recovered(tmp_path, fake) == (FAIL, "the user webapp has another secret key")


@pytest.mark.parametrize(("there", "has", "result"), [
    ({"uploads"}, b'{"quota":5,"quotatype":"hard","size":3}', PASS), ({"uploads"}, b'{"quota":6}', FAIL),
    ({"uploads"}, b'{"quota":0}', FAIL), ({"other"}, b'{"quota":0}', PASS),
])  # fmt: skip
def test_quotas_of_the_buckets_that_are_there(
    tmp_path: Path, fake: Fake, there: set[str], has: bytes, result: str
) -> None:
    def with_quota(data: bytes) -> Snapshot:
        quotas = identities.packed({"uploads/quota.json": data})
        return Snapshot("minio", {"iam.zip": zipped(), "quotas.zip": quotas}, buckets=frozenset(there))

    fake.found = with_quota(b'{"quota":5,"quotatype":"hard"}')
    take(tmp_path)
    fake.found = with_quota(has)
    assert recovered(tmp_path, fake, fresh=True)[0] == result


def test_a_fresh_store_whose_identities_came_earlier_is_compared_as_strictly(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(changed("groups/editors/members", []))
    assert recovered(tmp_path, fake)[0] == COULD_NOT_VERIFY
    assert recovered(tmp_path, fake, fresh=True) == (FAIL, "the group editors has another members")


def test_a_run_that_was_ended_while_it_gave_them_is_taken_up(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(NOBODY)

    def dies(given: Snapshot) -> Snapshot:
        fake.found = kept({**NOBODY, "users": EXPORT["users"]})
        raise LifeboatError("import", "x", "the line was cut")

    fake.lossy = dies
    assert recovered(tmp_path, fake)[0] == COULD_NOT_VERIFY
    fake.lossy = lambda given: given
    assert recovered(tmp_path, fake) == (PASS, COUNTED)
    fake.found = kept({**NOBODY, "users": EXPORT["users"]})
    assert recovered(tmp_path, fake)[0] == COULD_NOT_VERIFY, "that is the store's own now"
    assert fake.diary == ["put", "put", "quotas"]


def test_a_bucket_that_was_made_again_has_its_quota_and_no_identity_changes(tmp_path: Path, fake: Fake) -> None:
    take(tmp_path)
    fake.found = kept(changed("groups/editors/members", []))
    assert recovered(tmp_path, fake, made=True)[0] == COULD_NOT_VERIFY
    assert fake.diary == ["quotas"]


def test_what_is_not_given_back_is_no_pass(tmp_path: Path, fake: Fake) -> None:
    fake.found = kept(uses=("tiers (bucket cold)",))
    take(tmp_path)
    fake.found = kept(NOBODY)
    fake.lossy = lambda given: kept(changed("svcaccts/websvcaccesskey01", None))
    fake.left_out = {"access key websvcaccesskey01": "it is disabled"}
    words = "the access key websvcaccesskey01: it is disabled; the server's configuration, in no backup: tiers"
    result, detail = recovered(tmp_path, fake)
    assert (result, detail) == (COULD_NOT_VERIFY, f"{COUNTED}; not given back: {words} (bucket cold)")
    run = Opened(make(tmp_path))
    assert objects_identities.warnings(run) == [
        "the access key websvcaccesskey01 does not come back: it is disabled",
        "the server's configuration, in no backup: tiers (bucket cold)",
    ]
    assert objects_identities.step(run) == [
        "restore: where the store has lost its identities, those of objects_2 (1 user, 1 group, 1 policy, 1 access key)"
    ]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_could_not_be_compared_is_no_pass(tmp_path: Path, fake: Fake, when: str) -> None:
    take(tmp_path)
    error = UsageError("export", "x", "the admin key may not do that", "Give root's.")
    if when == "before":
        fake.error = error
        assert recovered(tmp_path, fake)[0] == COULD_NOT_VERIFY
        return
    brought = objects_identities.bring(Opened(make(tmp_path)), log=lambda _: None)
    fake.error = error
    (check,) = objects_identities.checks(Opened(make(tmp_path)), brought, fresh=True, created=False, log=lambda _: None)
    assert check.result == COULD_NOT_VERIFY and "not compared: the admin key may not do that" in check.detail


@pytest.mark.parametrize(("api", "fresh", "result", "words"), [
    ("", True, COULD_NOT_VERIFY, "in no backup; set lifeboat_objects.admin"), ("", False, "", ""),
    ("elsewhere", True, "", ""),
    ("minio", True, COULD_NOT_VERIFY, "no backup of the users, groups, policies and access keys was taken"),
])  # fmt: skip
def test_a_fresh_store_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, fresh: bool, result: str, words: str
) -> None:
    server = Fake()
    monkeypatch.setattr(stack_identities, "store_of", lambda run: server if api == "minio" else None)
    found, detail = recovered(tmp_path, server, fresh=fresh, api=api)
    assert (found, words in detail) == (result, True)


def test_why_a_store_refuses_the_application(tmp_path: Path, fake: Fake) -> None:
    run = Opened(make(tmp_path))
    assert objects_identities.needed(run) == "", "there is no copy"
    take(tmp_path)
    assert objects_identities.needed(run) == "", "it has them"
    fake.found = kept(NOBODY)
    words = "the object store has lost its identities, the application's key websvcaccesskey01 among them"
    assert objects_identities.needed(run) == words
    fake.error = NotFoundError("export", "x", "no address")
    assert objects_identities.needed(run) == words, "a file that is gone"
    fake.error = LifeboatError("export", "x", "no answer")
    assert objects_identities.needed(run) == "", "nothing can be told"
    fake.error = LifeboatError("x", "y", "")
    assert objects_identities.revive(run, log=lambda _: None) is True
    assert objects_identities.revive(run, log=lambda _: None) is False


# --- sealed with the configuration, and told by status ---


def test_the_copy_is_sealed_with_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    made = world.configured()
    made.state.mkdir(parents=True, exist_ok=True)
    stack_identities.keep(made, kept())
    one = world.take()
    listed = configuration_restore.listing(world.repo, one.id, world.own_keys)
    assert not [path for path in listed if str(made.identities) == path], "a stack without a bucket has none"
    monkeypatch.setattr(world, "configured", lambda **_: replace(made, objects=make(tmp_path).objects))
    one = world.take()
    listed = configuration_restore.listing(world.repo, one.id, world.own_keys)
    assert (listed[str(made.identities)].secret, listed[str(made.identities)].archive) == (True, "secrets.tar.gz.age")


NOTES = [
    ("", {}, "lifeboat_objects.admin is not set"),
    ("elsewhere", {}, ""),
    ("minio", {}, "lifeboat_secrets has no objects_admin_access_key and no objects_admin_secret_key"),
    ("minio", {"objects_admin_access_key": "a", "objects_admin_secret_key": "b"}, ""),
]


@pytest.mark.parametrize(("api", "secrets", "words"), NOTES)
def test_what_deploy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, secrets: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(configuration_files, "left_out", lambda run: [])
    found = preflight.notes(Opened(replace(make(tmp_path, api), secrets=secrets)))
    assert [note.startswith(words) for note in found] == ([True] if words else [])


def judged(root: Path, api: str, **details: Any) -> tuple[str, str]:
    root.mkdir(exist_ok=True)
    made = make(root, api, **({"identities_file": "/s3.json"} if api == "seaweedfs" else {}))
    made = replace(made, config=replace(made.config, enabled=True))
    manifest = publish_objects(root, NOW, **details)
    found = {check.name: check for check in status_checks.judged(made, store(root), manifest)}
    return (found["identities"].result, found["identities"].detail) if "identities" in found else ("", "")


HELD = {"api": "minio", "users": 1}


@pytest.mark.parametrize(("api", "held", "result", "words"), [
    ("", None, COULD_NOT_VERIFY, "access keys of the object store are in no backup; set lifeboat_objects.admin"),
    ("elsewhere", None, PASS, "not in any backup (lifeboat_objects.admin: elsewhere)"),
    ("minio", None, COULD_NOT_VERIFY, "was taken without them; take a new one: lifeboat backup objects"),
    ("seaweedfs", HELD, COULD_NOT_VERIFY, "was taken without them; take a new one: lifeboat backup objects"),
    ("minio", {**HELD, "problem": "access denied"}, COULD_NOT_VERIFY, "was taken without them: access denied"),
    ("minio", {**HELD, "uses": ["tiers (bucket cold)"]}, COULD_NOT_VERIFY, "in no backup: tiers (bucket cold)"),
    ("minio", HELD, COULD_NOT_VERIFY, "on this host alone: the newest config backup does not have it"),
])  # fmt: skip
def test_what_status_says(tmp_path: Path, api: str, held: Any, result: str, words: str) -> None:
    found, detail = judged(tmp_path, api, **({"identities": held} if held else {}))
    assert (found, words in detail) == (result, True), detail


def test_what_status_says_of_a_sealed_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_config(tmp_path, NOW)
    path = str(make(tmp_path).identities)
    monkeypatch.setattr(configuration_restore, "listing", lambda repo, identity, keys: {path: None})
    found, detail = judged(tmp_path, "minio", identities=HELD)
    assert found == PASS and detail.endswith("sealed with the configuration")
    monkeypatch.setattr(configuration_restore, "listing", lambda repo, identity, keys: {})
    assert judged(tmp_path / "other", "minio", identities=HELD)[0] == COULD_NOT_VERIFY


def test_a_store_that_is_not_ours_is_not_judged(tmp_path: Path) -> None:
    made = make(tmp_path, "")
    made = replace(made, objects=replace(made.objects, service="", endpoint_url="http://127.0.0.1:9000"))
    manifest = publish_objects(tmp_path, NOW)
    assert [check.name for check in status_checks.judged(made, store(tmp_path), manifest)] == []
