# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that the other tests stand on: they answer, keep data over a restart, and tell no secret."""

from __future__ import annotations

import s3_servers
from conftest import MakeBucket
from s3_servers import ALIAS, JuiceFS, Server


def test_mc_sees_what_was_put(server: Server, make_bucket: MakeBucket, witness: None) -> None:
    bucket = make_bucket(server)
    server.client.put_object(Bucket=bucket, Key="a b/ü", Body=b"four", Metadata={"owner": "me"}, Tagging="kind=test")
    assert [(row["key"], row["size"]) for row in s3_servers.mc(server, "ls", "-r", f"{ALIAS}/{bucket}")] == [
        ("a b/ü", 4)
    ]
    stat = s3_servers.mc(server, "stat", f"{ALIAS}/{bucket}/a b/ü")[0]
    assert stat["metadata"]["X-Amz-Meta-Owner"] == "me"
    assert s3_servers.mc(server, "tag", "list", f"{ALIAS}/{bucket}/a b/ü")[0]["tagset"] == {"kind": "test"}


def test_a_killed_server_comes_back_with_its_data(gateway: JuiceFS, make_bucket: MakeBucket) -> None:
    bucket = make_bucket(gateway)  # SeaweedFS does too, and takes 17 s
    gateway.client.put_object(Bucket=bucket, Key="one", Body=b"kept")
    gateway.kill()
    gateway.start()
    assert gateway.client.get_object(Bucket=bucket, Key="one")["Body"].read() == b"kept"


def test_no_secret_in_its_log(server: Server) -> None:
    server.client.list_buckets()
    assert server.log.read_bytes()
    assert server.secret_key.encode() not in server.log.read_bytes()
