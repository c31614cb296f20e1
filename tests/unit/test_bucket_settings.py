# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""A bucket's settings: read from servers that know more or less, what counts as lost, and only that is set again."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import bucket_requests
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import throttle
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Answer
from botocore.exceptions import ClientError, EndpointConnectionError

RULES = [
    {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
]
POLICY = {"Version": "2012-10-17", "Statement": []}
CORS = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
WHOLE = {"versioning": "Enabled", "lifecycle": RULES, "policy": POLICY, "cors": CORS}


def refused(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "X")  # type: ignore[typeddict-item]


@dataclass
class Bucket:
    """A bucket that answers as a test says; what is put into it is kept."""

    answers: dict[str, Any]
    name: str = "uploads"
    url: str = "s3://uploads at test"
    put: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)  # what it says to a request, word for word
    sent: dict[str, bytes] = field(default_factory=dict)
    diary: list[str] = field(default_factory=list)
    uploads: Any = None

    @property
    def client(self) -> Bucket:
        return self

    def ask(
        self, method: str, key: str = "", query: dict[str, str] | None = None, *, body: bytes = b"", attempted: str
    ) -> Any:
        (request, *_) = query = query or {}
        if method in ("POST", "DELETE"):
            self.diary.append(f"{method} {request}")
            with client.translated_errors(attempted, self.url):
                if isinstance(self.uploads, Exception):
                    raise self.uploads
            return Answer(
                200,
                {},
                f"<InitiateMultipartUploadResult><UploadId>{self.uploads}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
        if method == "PUT":
            self.sent[request] = body
        if method == "GET" and request in self.raw:
            return Answer(200, {}, self.raw[request].encode())
        if "list-type" not in query:
            return bucket_requests.answer(self, method, query, body, attempted)
        with client.translated_errors(attempted, self.url):
            return self.head_bucket(Bucket=self.name)

    def set(self, what: str, document: bytes, attempted: str) -> None:
        self.ask("PUT", query={what: ""}, body=document, attempted=attempted)

    def __getattr__(self, call: str) -> Any:
        def answer(**arguments: Any) -> Any:
            assert arguments.pop("Bucket") == "uploads"
            if callable(self.answers.get(call)):
                return self.answers[call](Bucket=self.name, **arguments)
            if not call.startswith(("get_", "head_")):
                self.put[call] = arguments
                return {}
            found = self.answers[call]
            if isinstance(found, Exception):
                raise found
            return found

        return answer


def telling(**changes: Any) -> Bucket:
    return Bucket(
        {
            "get_bucket_versioning": {"Status": "Enabled"},
            "get_bucket_lifecycle_configuration": {"Rules": RULES},
            "get_bucket_policy": {"Policy": json.dumps(POLICY)},
            "get_bucket_cors": {"CORSRules": CORS},
            **changes,
        }
    )


TOLD = {  # as it is kept
    **WHOLE,
    "lifecycle": "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix /></Filter><NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
    "cors": "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
    "versioning exceptions": None,
}
READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, TOLD),
    ({"get_bucket_versioning": {}}, {**TOLD, "versioning": None}),
    ({"get_bucket_lifecycle_configuration": refused("NoSuchLifecycleConfiguration", 404)}, {**TOLD, "lifecycle": None}),
    ({"get_bucket_policy": refused("NoSuchBucketPolicy", 404)}, {**TOLD, "policy": None}),
    ({"get_bucket_cors": refused("NoSuchCORSConfiguration", 404)}, {**TOLD, "cors": None}),
    ({"get_bucket_policy": refused("NotImplemented", 501)}, {key: value for key, value in TOLD.items() if key != "policy"}),
    ({"get_bucket_cors": refused("AccessDenied", 403)}, {key: value for key, value in TOLD.items() if key != "cors"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), READ)
def test_read(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert s3_settings.read(telling(**changes)) == expected


def test_settings_are_asked_for_side_by_side() -> None:
    """Eleven requests one after the other are slow where the store is far away, or has a thousand buckets."""
    several, told = threading.Barrier(throttle.SIDE_BY_SIDE), threading.local()

    class Slow(Bucket):
        def ask(self, *args: Any, **options: Any) -> Any:
            if not getattr(told, "met", False):  # each thread's first request waits for the others' first
                told.met = True
                several.wait(timeout=20)
            return super().ask(*args, **options)

    assert s3_settings.read(Slow(telling().answers)) == TOLD


def test_what_is_not_to_be_set_is_not_asked_for() -> None:
    """Eleven requests a bucket, before its objects come back and after that, are many where there are a thousand."""
    asked: list[str] = []

    class Asked(Bucket):
        def ask(self, method: str, *args: Any, **options: Any) -> Any:
            asked.extend([method, *options["query"]])
            return super().ask(method, *args, **options)

    bucket = Asked({**telling().answers, "get_bucket_versioning": {}})
    wanted = {"versioning": "Enabled", "versioning exceptions": None, "policy": None}
    assert s3_settings.apply(bucket, wanted).changed == ("versioning",)
    assert asked == ["GET", "versioning", "PUT", "versioning"]
    asked.clear()
    assert s3_settings.apply(bucket, {"policy": None, "lifecycle": None}, whole=True) == s3_settings.Applied()
    assert asked == []
    assert s3_settings.read(bucket, ["versioning exceptions"]) == {"versioning": None, "versioning exceptions": None}


FURTHER: dict[str, tuple[str, dict[str, Any], str]] = {
    "encryption": ("get_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [
        {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}}, "<SSEAlgorithm>AES256</SSEAlgorithm>"),
    "public access block": ("get_public_access_block", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}},
        "<BlockPublicAcls>true</BlockPublicAcls>"),
    "object ownership": ("get_bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
        "<ObjectOwnership>ObjectWriter</ObjectOwnership>"),
    "website": ("get_bucket_website", {"IndexDocument": {"Suffix": "index.html"}}, "<Suffix>index.html</Suffix>"),
    "notification": ("get_bucket_notification_configuration", {"QueueConfigurations": [{"QueueArn": "arn:q", "Events": ["s3:ObjectCreated:*"]}]},
        "<Queue>arn:q</Queue>"),
    "tags": ("get_bucket_tagging", {"TagSet": [{"Key": "team", "Value": "shop"}]}, "<Key>team</Key>"),
    "object lock": ("get_object_lock_configuration", {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", "Rule": {
        "DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}}}}, "<Mode>GOVERNANCE</Mode>"),
}  # fmt: skip


@pytest.mark.parametrize("name", FURTHER)
def test_each_further_setting_is_read_and_set_again(name: str) -> None:
    call, said, part = FURTHER[name]
    told = s3_settings.read(telling(**{call: said}))
    assert part in str(told[name])
    codes = {
        "encryption": "ServerSideEncryptionConfigurationNotFoundError", "website": "NoSuchWebsiteConfiguration",
        "public access block": "NoSuchPublicAccessBlockConfiguration", "tags": "NoSuchTagSet",
        "object ownership": "OwnershipControlsNotFoundError", "object lock": "ObjectLockConfigurationNotFoundError",
    }  # fmt: skip
    fresh = telling(**{call: {} if name == "notification" else refused(codes[name], 404)})
    fresh.uploads = "u1"
    assert s3_settings.read(fresh)[name] is None
    assert s3_settings.apply(fresh, told).changed == (name,)
    ((put, argument),) = fresh.put.items()
    assert put == call.replace("get_", "put_")
    assert list(argument.values()) == [
        next(iter(said.values())) if len(said) == 1 and next(iter(said)) in argument else said
    ]


def test_encryption_with_which_no_object_is_taken_goes_again() -> None:
    """A server without its key takes the setting, and then refuses every object: better in clear, and told."""
    wanted = {"encryption": "<ServerSideEncryptionConfiguration><Rule /></ServerSideEncryptionConfiguration>"}
    fresh = telling(get_bucket_encryption=refused("ServerSideEncryptionConfigurationNotFoundError", 404))
    fresh.uploads = refused("kms:InvalidCiphertextException", 400)
    applied = s3_settings.apply(fresh, wanted)
    assert (
        "with it the server takes no object: the server cannot decrypt what it holds (kms:Invalid"
        in applied.refused["encryption"]
    )
    assert fresh.diary == ["POST uploads", "DELETE encryption"]


def test_an_answer_to_another_question_is_no_setting() -> None:
    """A server that does not know `?website` may list the bucket."""
    listing = "<ListBucketResult><Name>uploads</Name></ListBucketResult>"
    bucket = telling()
    bucket.raw = {"website": listing, "policy": listing, "cors": listing}
    assert {"website", "policy", "cors"} & set(s3_settings.read(bucket)) == set()


MINIOS = (
    '<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\n <Rule><ID>d</ID><Status>Enabled</Status>'
    "<Filter><Prefix></Prefix></Filter><DelMarkerExpiration><Days>1</Days></DelMarkerExpiration></Rule>"
    "<Rule><ID>o</ID><Status>Enabled</Status></Rule></LifecycleConfiguration>"
)


def test_what_boto3_does_not_know_is_kept_and_set_again() -> None:
    bucket = telling()
    bucket.raw = {"lifecycle": MINIOS}
    told = s3_settings.read(bucket)
    assert "<DelMarkerExpiration><Days>1</Days></DelMarkerExpiration>" in str(told["lifecycle"])
    gone = telling(get_bucket_lifecycle_configuration=refused("NoSuchLifecycleConfiguration", 404))
    assert s3_settings.apply(gone, told).changed == ("lifecycle",)
    assert b"<DelMarkerExpiration><Days>1</Days></DelMarkerExpiration>" in gone.sent["lifecycle"]
    other = MINIOS.replace("<Days>1</Days>", "<Days>2</Days>")
    bucket.raw = {"lifecycle": other}
    assert s3_settings.changed(told, s3_settings.read(bucket)) == ["lifecycle"]


def test_versioning_with_exceptions_is_set_with_them() -> None:
    bucket = telling()
    excepted = "<VersioningConfiguration><Status>Enabled</Status><ExcludeFolders>true</ExcludeFolders></VersioningConfiguration>"
    bucket.raw = {"versioning": excepted}
    told = s3_settings.read(bucket)
    assert (told["versioning"], told["versioning exceptions"]) == ("Enabled", excepted)
    plain = telling()
    assert s3_settings.apply(plain, told).changed == ("versioning exceptions",)
    assert b"<ExcludeFolders>true</ExcludeFolders>" in plain.sent["versioning"]


def test_a_bucket_made_just_now_gets_what_differs_too() -> None:
    wanted = {
        "object lock": "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>2</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
    }
    said = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
    assert s3_settings.apply(telling(get_object_lock_configuration=said), wanted).changed == ()
    assert s3_settings.apply(telling(get_object_lock_configuration=said), wanted, whole=True).changed == (
        "object lock",
    )


def test_another_answer_is_no_setting() -> None:
    with pytest.raises(LifeboatError, match=r"Could not read the bucket's policy.*SlowDown"):
        s3_settings.read(telling(get_bucket_policy=refused("SlowDown", 503)))


# (wanted, have) -> (lost, changed)
COMPARED: list[tuple[dict[str, Any], dict[str, Any], list[str], list[str]]] = [
    (WHOLE, WHOLE, [], []),
    (WHOLE, {**WHOLE, "versioning": "Suspended"}, ["versioning"], []),
    (WHOLE, {**WHOLE, "versioning": None}, ["versioning"], []),
    (WHOLE, {"versioning": None, "lifecycle": None, "policy": None, "cors": None}, ["versioning", "lifecycle", "policy", "cors"], []),
    (WHOLE, {**WHOLE, "lifecycle": [*RULES, {}], "policy": {}}, ["policy"], ["lifecycle"]),
    (WHOLE, {"versioning": "Enabled"}, [], []),  # what a server does not tell is not known to be lost
    ({**WHOLE, "versioning": "Suspended"}, {**WHOLE, "versioning": "Suspended"}, [], []),
    ({**WHOLE, "versioning": "Suspended"}, {**WHOLE, "versioning": None}, ["versioning"], []),
    ({**WHOLE, "versioning": "Suspended"}, WHOLE, [], ["versioning"]),
    ({"versioning": None, "policy": None}, WHOLE, [], []),
    ({}, WHOLE, [], []),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "have", "lost", "changed"), COMPARED)
def test_what_counts_as_lost(wanted: dict[str, Any], have: dict[str, Any], lost: list[str], changed: list[str]) -> None:
    assert (s3_settings.lost(wanted, have), s3_settings.changed(wanted, have)) == (lost, changed)


def test_findings_in_words() -> None:
    suspended = {"versioning": "Suspended"}
    assert s3_settings.describe("versioning", WHOLE, suspended) == "versioning is Suspended, it was Enabled"
    assert s3_settings.describe("versioning", suspended, {"versioning": None}) == "versioning is off, it was Suspended"
    assert s3_settings.describe("policy", WHOLE, {"policy": None}) == "the bucket's policy is gone"


def test_what_is_lost_is_set_again_and_nothing_else() -> None:
    bucket = telling(
        get_bucket_versioning={}, get_bucket_policy=refused("NoSuchBucketPolicy"), get_bucket_cors={"CORSRules": [{}]},
        get_bucket_lifecycle_configuration=refused("NoSuchLifecycleConfiguration"),
    )  # fmt: skip
    assert s3_settings.apply(bucket, WHOLE) == s3_settings.Applied(("versioning", "lifecycle", "policy"))
    assert bucket.put == {
        "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
        "put_bucket_lifecycle_configuration": {"LifecycleConfiguration": {"Rules": RULES}},
        "put_bucket_policy": {"Policy": json.dumps(POLICY)},
    }
    bucket = telling(get_bucket_cors=refused("NoSuchCORSConfiguration"))
    assert s3_settings.apply(bucket, WHOLE).changed == ("cors",)
    assert bucket.put == {"put_bucket_cors": {"CORSConfiguration": {"CORSRules": CORS}}}
    bucket = telling()
    assert (s3_settings.apply(bucket, WHOLE), bucket.put) == (s3_settings.Applied(), {})


def test_what_differs_is_made_what_it_was_where_that_was_asked_for() -> None:
    other = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]}
    bucket = telling(get_bucket_policy={"Policy": json.dumps(other)})
    assert s3_settings.apply(bucket, WHOLE).changed == ()
    assert s3_settings.apply(bucket, WHOLE, whole=True).changed == ("policy",)
    assert bucket.put == {"put_bucket_policy": {"Policy": json.dumps(POLICY)}}
    assert s3_settings.added({**WHOLE, "cors": None, "versioning": None}, WHOLE) == ["cors"]


def test_what_the_server_refuses_stops_nothing_else() -> None:
    """A tier that a fresh server does not have; the rule next to it is set all the same."""
    rules = [{"ID": "tier", "Transitions": [{"StorageClass": "COLD"}]}, {"ID": "old"}]
    bucket = telling(
        get_bucket_lifecycle_configuration=refused("NoSuchLifecycleConfiguration"),
        get_bucket_policy=refused("NoSuchBucketPolicy"),
    )  # fmt: skip

    def put(Bucket: str, LifecycleConfiguration: dict[str, Any]) -> None:
        if any("Transitions" in rule for rule in LifecycleConfiguration["Rules"]):
            raise refused("InvalidStorageClass", 400)
        bucket.put["rules"] = LifecycleConfiguration["Rules"]

    bucket.answers["put_bucket_lifecycle_configuration"] = put
    applied = s3_settings.apply(bucket, {**WHOLE, "lifecycle": rules})
    assert (applied.changed, bucket.put["rules"]) == (("policy",), [{"ID": "old"}])
    assert list(applied.refused) == ["lifecycle"]
    assert "rule tier: InvalidStorageClass" in applied.refused["lifecycle"]
    silent = telling(get_bucket_policy=refused("SlowDown", 503))
    assert list(s3_settings.apply(silent, WHOLE).refused) == ["versioning", "lifecycle", "policy", "cors"]


def test_what_the_key_may_not_read_is_not_absent() -> None:
    told = s3_settings.inspect(telling(get_bucket_policy=refused("AccessDenied", 403)))
    assert (told.denied, "policy" in told.values) == (("policy",), False)
    assert s3_settings.inspect(telling(get_bucket_cors=refused("NotImplemented", 501))).denied == ()


STATEMENT: dict[str, Any] = {
    "Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["a", "b"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": ["b", "a"]}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Action": ["s3:GetObject"]}, False),
        ({"Effect": "Deny"}, False),
    ],
)
def test_policies_are_compared_as_sets(other: dict[str, Any], same: bool) -> None:
    second = {**STATEMENT, "Effect": "Deny", "Resource": "c"}
    wanted = {"policy": {"Statement": [STATEMENT, second]}}
    have = {"policy": {"Statement": [second, {**STATEMENT, **other}]}}
    assert s3_settings.changed(wanted, have) == ([] if same else ["policy"])
    assert s3_settings.changed({"policy": json.dumps(wanted["policy"])}, have) == ([] if same else ["policy"])


def test_a_bucket_is_made_once() -> None:
    missing = telling(head_bucket=refused("404", 404))
    assert (s3_settings.make(missing), missing.put) == (True, {"create_bucket": {}})
    there = telling(head_bucket={})
    assert (s3_settings.make(there), there.put) == (False, {})


UNKNOWN = [
    (refused("403", 403), UsageError, "access denied"),
    (refused("500", 500), LifeboatError, "look for the bucket"),
    (EndpointConnectionError(endpoint_url="http://x"), LifeboatError, "Could not connect"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), UNKNOWN)
def test_no_access_and_no_answer_are_not_a_missing_bucket(answer: Exception, kind: type[Exception], words: str) -> None:
    bucket = telling(head_bucket=answer)
    with pytest.raises(kind, match=words):
        s3_settings.make(bucket)
    assert bucket.put == {}
