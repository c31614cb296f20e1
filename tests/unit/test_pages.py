# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a listing: whatever is in one, reading it fast says what reading it as XML says."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Optional, Union
from urllib.parse import unquote_plus

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, listing_parser, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Version
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.listing_parser import Page

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ETAG, AT = "&#34;d41d8cd98f00b204e9800998ecf8427e&#34;", "2026-11-24T02:00:00.000Z"
BUCKET = Bucket("uploads", "http://127.0.0.1:1")


def document(*rows: str, kind: str = "ListVersionsResult", head: str = HEAD) -> str:
    said = "<Name>uploads</Name><Prefix></Prefix><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
    return f"{head}<{kind} {NAMESPACE}>{said}{''.join(rows)}</{kind}>"


def seaweedfs(key: str, kind: str = "Version", size: str = "3") -> str:
    owner = "<Owner><ID>admin</ID><DisplayName>admin</DisplayName></Owner>"
    body = "" if kind == "DeleteMarker" else f"<ETag>{ETAG}</ETag><Size>{size}</Size>"
    return (
        f"<{kind}><Key>{key}</Key><VersionId>v-{key}</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{AT}</LastModified>{body}{owner}<StorageClass>STANDARD</StorageClass></{kind}>"
    )


def minio(key: str) -> str:
    return (
        f"<Version><Key>{key}</Key><LastModified>{AT}</LastModified><ETag>{ETAG.replace('#34', 'quot')}</ETag>"
        "<Size>3</Size><Owner><ID></ID><DisplayName></DisplayName></Owner><StorageClass>GLACIER</StorageClass>"
        f"<IsLatest>false</IsLatest><VersionId>{key}</VersionId></Version>"
    )


def minio_with_metadata(key: str, tags: str = "", more: str = "<X-Amz-Meta-A_b.1>c d</X-Amz-Meta-A_b.1>") -> str:
    """As generateListVersionsResponse() of its cmd/api-response.go writes it where `metadata=true` is asked for."""
    said = f"<UserMetadata><content-type>text/plain</content-type>{more}</UserMetadata>"
    said += f"<UserTags>{tags}</UserTags>" if tags else ""
    return minio(key).replace("<IsLatest>false", f"{said}<Internal><K>1</K><M>0</M></Internal><IsLatest>true")


def amazon(key: str) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{AT}</LastModified><ETag>{ETAG}</ETag><ChecksumAlgorithm>CRC64NVME"
        "</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>0</Size><StorageClass>STANDARD"
        "</StorageClass></Contents>"
    )


def slowly(body: bytes) -> Page:
    return Page(signed.xml(body, "list", "s3://uploads"))


def told(page: Page) -> tuple[list[Version], str]:
    return bucket._rows(BUCKET, page, unquote_plus), page.last("Key")


def outcome(body: bytes, *, quick: bool) -> Union[tuple[list[Version], str], str]:
    """The rows and the last key, or the words of the error."""
    try:
        return told(listing_parser.read(body, "list", "s3://uploads") if quick else slowly(body))
    except LifeboatError as exc:
        return str(exc)


KEYS = ("a", "b%20c", "d+e", "photos/1.jpg", "\u65e5\u672c/\U0001f600", "z")


@pytest.mark.parametrize("row", [seaweedfs, minio, minio_with_metadata, amazon])
@pytest.mark.parametrize("head", [HEAD, "", "<?xml version='1.0'?>"])
def test_the_rows_of_servers_are_read_fast_and_the_same(row: object, head: str) -> None:
    body = document(*map(row, KEYS), head=head).encode()  # type: ignore[arg-type]
    page = listing_parser.read(body, "list", "s3://uploads")
    assert (page.count, len(page.root)) == (len(KEYS), 5), "all rows were taken out, for one mark"
    assert told(page) == told(slowly(body))
    assert [version.key for version in told(page)[0]] == [unquote_plus(key) for key in KEYS]


# What else a page may have in it, and how many of its rows are read fast.
ODD: dict[str, tuple[str, Optional[int]]] = {
    "delete markers between versions": (
        document(seaweedfs("a"), seaweedfs("a", "DeleteMarker"), seaweedfs("b"), seaweedfs("c", "DeleteMarker")), 2,
    ),
    "a delete marker first": (document(seaweedfs("a", "DeleteMarker"), seaweedfs("a"), seaweedfs("b")), 1),
    "a name that XML writes in another way": (document(seaweedfs("a"), seaweedfs("b&amp;c"), seaweedfs("d")), 2),
    "names with a line break or a tab": (document(seaweedfs("a"), seaweedfs("b\r\nc"), seaweedfs("d\te")), 1),
    "a name with what ends CDATA": (document(seaweedfs("a"), seaweedfs("b]]>c")), None),
    "rows of two forms": (document(seaweedfs("a"), minio("b"), seaweedfs("c"), minio("d")), 2),
    "white space between the fields": (document(seaweedfs("a").replace("><", ">\n <"), seaweedfs("b")), 1),
    "white space between the rows": (document(seaweedfs("a"), "\n  ", seaweedfs("b"), "\n"), 2),
    "a field twice": (document(seaweedfs("a").replace("<Owner>", "<Key>b</Key><Owner>")), 1),
    "a field without a text": (document(seaweedfs("a").replace("<Owner>", "<Restore/><Owner>")), None),
    "a field with fields": (document(seaweedfs("a").replace("<Owner>", "<Tags><Tag>a</Tag></Tags><Owner>")), 0),
    "a name that is a field with fields": (document(seaweedfs("<b>c</b>")), 0),
    "a field with an attribute": (document(seaweedfs("a").replace("<Size>", '<Size unit="B">'), seaweedfs("b")), None),
    "an ETag in many quotation marks": (document(seaweedfs("a").replace(ETAG, f'"{ETAG}"'), seaweedfs("b")), 1),
    "an ETag in none": (document(seaweedfs("a").replace(ETAG, "abc")), 1),
    "a comment around a row": (document(seaweedfs("a"), f"<!-- {seaweedfs('b')} -->", seaweedfs("c")), 0),
    "rows that are a text": (document(seaweedfs("a"), f"<Note><![CDATA[{seaweedfs('b')}]]></Note>"), 0),
    "rows in an attribute": (document(seaweedfs("a"), f"<Note of=\"{seaweedfs('b')}\"></Note>"), None),
    "rows in another element": (document(seaweedfs("a"), f"<Old>{seaweedfs('b')}</Old>", seaweedfs("c")), 0),
    "a mark of the server's own": (document(seaweedfs("a"), '<_ n="2"/>', seaweedfs("b")), 0),
    "a name with a mark": (document(seaweedfs("a"), "<Name>_</Name>", seaweedfs("b_")), 2),
    "an entity of its own": (
        document(seaweedfs("&e;"), seaweedfs("b"), head=f'{HEAD}<!DOCTYPE l [<!ENTITY e "x">]>'), 0,
    ),
    "another encoding": (document(seaweedfs("a"), head=HEAD.replace("UTF-8", "ISO-8859-1")), 0),
    "metadata of several names, and tags": (
        document(minio_with_metadata("a"), minio_with_metadata("b", "n=1&amp;o=a+b", ""), minio_with_metadata("c")), 3,
    ),
    "tags that XML writes in another way": (document(minio_with_metadata("a"), minio_with_metadata("b", "&lt;")), 1),
    "metadata that XML writes in another way": (
        document(minio_with_metadata("a"), minio_with_metadata("b", more="<c>&#34;</c>")), 1,
    ),
    "metadata whose name is no XML": (document(minio_with_metadata("a", more="<c+d></c+d>")), None),
    "metadata that is not closed": (document(minio_with_metadata("a"), minio_with_metadata("b", more="<c></d>")), None),
    "metadata with fields": (
        document(minio_with_metadata("a"), minio_with_metadata("b", more="<c><d>e</d></c>")), 1,
    ),
    "a prefix of names": (document(seaweedfs("a"), "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"), 1),
    "what no XML can say": (document(seaweedfs("a"), seaweedfs("b\x01"), seaweedfs("c&#x01;")), 0),
    "what is no Unicode": (document(seaweedfs("a"), seaweedfs("b\ufffe")), 0),
    "less than nothing": (document(seaweedfs("a"), seaweedfs("b", size="-1")), 2),
    "a size of words": (document(seaweedfs("a"), seaweedfs("b", size="many")), 2),
    "no size": (document(seaweedfs("a", size=""), seaweedfs("b")), 2),
    "no time": (document(seaweedfs("a"), seaweedfs("b")).replace(AT, ""), 2),
    "no name": (document(seaweedfs("a")).replace("<Key>a</Key>", ""), 1),
    "cut": (document(seaweedfs("a"), seaweedfs("b"))[:-30], None),
    "no rows": (document(), 0),
    "another document": (document(seaweedfs("a"), kind="Error"), 1),
    "a mark of the server's own that counts nothing": (document(seaweedfs("a"), '<_ n="x"/>', seaweedfs("b")), 0),
    "a mark of another namespace": (
        document(seaweedfs("a"), '<x:_ xmlns:x="u" n="1"/><x:_ xmlns:x="u" n="-1"/>', seaweedfs("b")), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_whatever_else_is_in_a_page_is_read_as_xml_is(case: str) -> None:
    text, count = ODD[case]
    body = text.encode()
    assert outcome(body, quick=True) == outcome(body, quick=False)
    if count is not None:
        assert listing_parser.read(body, "list", "s3://uploads").count == count


@pytest.mark.parametrize("quick", [True, False])
def test_the_tags_of_current_objects_are_told(quick: bool) -> None:
    rows = (
        minio_with_metadata("a", "n=1&amp;o=a+b"), minio("b"), minio_with_metadata("b%20c", "&#110;=2"),
        minio_with_metadata("d").replace("<IsLatest>true", "<IsLatest>false"), minio_with_metadata("e"),
        seaweedfs("m", "DeleteMarker"),
    )  # fmt: skip
    body = document(*rows).encode()
    told: list[tuple[str, str, str]] = []
    tags = bucket.Tags(told.extend)
    tags.page(listing_parser.read(body, "list", "s3://uploads") if quick else slowly(body), unquote_plus)
    etag = "d41d8cd98f00b204e9800998ecf8427e"
    assert sorted(told) == [("a", etag, "n=1&o=a+b"), ("b c", etag, "n=2"), ("e", etag, "")]
    assert (tags.included, tags.requested) == (True, True)


@pytest.mark.parametrize("row", [minio, amazon])
def test_a_listing_that_tells_no_tags_is_not_asked_for_them_again(row: Callable[[str], str]) -> None:
    tags = bucket.Tags(lambda rows: pytest.fail(str(rows)))
    tags.page(listing_parser.read(document().encode(), "list", "s3://uploads"), unquote_plus)
    assert tags.requested, "an empty page tells nothing"
    tags.page(listing_parser.read(document(row("a")).encode(), "list", "s3://uploads"), unquote_plus)
    assert not tags.requested


@pytest.mark.parametrize("mark", ['<_ n="x"/>', '<_ n="-1"/>', '<x:_ xmlns:x="u" n="9"/>'])
def test_a_server_may_name_its_elements_as_ours_are(mark: str) -> None:
    rows, last = told(
        listing_parser.read(document(seaweedfs("a"), seaweedfs("b"), mark).encode(), "list", "s3://uploads")
    )
    assert ([row.key for row in rows], last) == (["a", "b"], "b")


def test_a_page_with_any_change_is_read_as_xml_is() -> None:
    """A seeded search: one or two things that matter to XML are put anywhere, or anything is cut out or moved."""
    chosen = random.Random(13)  # noqa: S311
    known = document(*map(seaweedfs, KEYS[:3]), seaweedfs("y", "DeleteMarker"), seaweedfs("z"))
    signs = ("<", ">", "&", '"', "<!-- -->", "<_/>", '<_ n="1"/>', "]]>", "&#34;", "&#1;", "\x00", "\r", " ", "x", "0",
             "<?a?>", "\u00e9", "<Key>q</Key>", "<Restore/>", "<![CDATA[x]]>", "<Version></Version>")  # fmt: skip
    different = 0
    for _change in range(600):
        text = known
        for _again in range(chosen.choice((1, 1, 2))):
            start, length = chosen.randrange(len(HEAD), len(text)), chosen.choice((0, 0, 0, 1, 40))
            text, moved = text[:start] + text[start + length :], text[start : start + length]
            at = chosen.randrange(len(HEAD), len(text))
            text = text[:at] + (moved if chosen.random() < 0.5 else chosen.choice(signs)) + text[at:]
        found = outcome(text.encode(), quick=True)
        assert found == outcome(text.encode(), quick=False), text
        different += isinstance(found, tuple)
    assert 100 < different < 500, "some of them are still listings, and some are none"
