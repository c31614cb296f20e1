#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who may read the vault searches every byte of it for words that nobody should read there.

It speaks S3 only, with a key that reads. Every version of every object is searched, its name, and what is in it once it
is decompressed, however often: gzip, zstd, and zlib streams, as those of a dump or of a git bundle.

Usage: search_vault.py ENDPOINT BUCKET WORD…, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.

Prints each word and the object that holds it, a line each, and then on standard error how much was read. Exit 0: a word
was found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import boto3

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from canaries import faces


def main() -> int:
    endpoint, bucket, *words = sys.argv[1:]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    found, objects, size = set(), 0, 0
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in page.get("Versions", ()):
            key = item["Key"]
            data = client.get_object(Bucket=bucket, Key=key, VersionId=item["VersionId"])["Body"].read()
            bodies = list(faces(data))
            objects, size = objects + 1, size + len(data)
            found |= {(word, key) for word in words if word in key or any(word.encode() in body for body in bodies)}
    print(*(f"{word} {key}" for word, key in sorted(found)), sep="\n")
    sys.stderr.write(f"{objects} objects, {size} bytes\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
