# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the vault burn with the source? By addresses, as resolvers and this host's own interfaces say."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import separation
from builders import make_config

NAMES = {
    "shop1": ["192.0.2.1"],
    "files.shop1": ["192.0.2.1", "2001:db8::1"],
    "vault1": ["192.0.2.9"],
    "localhost": ["127.0.0.1"],
    "s3.us-east-1.amazonaws.com": ["198.51.100.5"],
}

TABLE = [
    ("http://shop1:9000", "http://vault1:9000", ""),
    ("http://shop1:9000", "https://vault1", ""),
    ("", "http://vault1:9000", ""),
    ("http://localhost:9000", "http://vault1:9000", ""),
    ("http://shop1:9000", "http://shop1:9000", "THE SAME ENDPOINT AS THE SOURCE"),
    ("http://shop1:9000", "http://files.shop1:9000/", "THE SAME ENDPOINT AS THE SOURCE"),
    ("http://shop1:9000", "http://files.shop1:9001", "ON THE SAME MACHINE AS THE SOURCE"),
    ("http://shop1", "https://shop1", "ON THE SAME MACHINE AS THE SOURCE"),
    ("http://shop1:443", "https://shop1", "THE SAME ENDPOINT AS THE SOURCE"),
    ("http://localhost:9000", "http://127.0.0.1:9001", "ON THIS VERY HOST"),
    ("http://shop1:9000", "http://localhost:9000", "ON THIS VERY HOST"),
    ("", "http://localhost:9000", "ON THIS VERY HOST"),
    ("http://shop1:9000", "http://gone:9000", "MAY NOT BE APART: gone has no address"),
    ("http://gone:9000", "http://vault1:9000", "MAY NOT BE APART: gone has no address"),
    ("https://s3.us-east-1.amazonaws.com", "", "THE SAME ENDPOINT AS THE SOURCE"),
    ("http://shop1:9000", "", ""),
]


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *rest: object, **more: object) -> list[tuple[object, ...]]:
        del rest, more
        if host == "127.0.0.1":
            return [(None, None, None, "", (host, 0))]
        if host not in NAMES:
            raise socket.gaierror(-2, "Name or service not known")
        return [(None, None, None, "", (address, 0)) for address in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(("source", "vault", "words"), TABLE)
def test_apart(tmp_path: Path, source: str, vault: str, words: str) -> None:
    objects = {"bucket": "uploads", "endpoint_url": source, "service": "minio"}
    one = make_config(tmp_path, objects=objects, vault={"objects_bucket": "mirror", "endpoint_url": vault})
    told = separation.apart(one)
    assert (len(told) == 1 and words in told[0]) if words else told == []


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert separation.apart(make_config(tmp_path)) == []
    alone = make_config(tmp_path, vault={"repository_bucket": "copies", "endpoint_url": "http://localhost:9000"})
    assert separation.apart(alone) == []
