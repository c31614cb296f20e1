#!/usr/bin/env python3
"""The container images that this repository names: each with a digest, or with a reason in unpinned.yml.

Usage: pins.py            (by make pin: asks the registries for the digests of what waits for one, and writes them)
       pins.py --check    (by make lint: asks nobody)
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message
from http.client import HTTPException
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
REASONS = Path(__file__).resolve().parent / "unpinned.yml"
# Invented names are in unit tests, and in docs those that an operator replaces.
FOLDERS = ("execution-environment", "inventories", "molecule", "monitoring", "playbooks", "roles", "tests")
LEFT_OUT = ("tests/unit/", "tests/sanity/", "tests/supply/")
REFERENCE = r"(?P<image>(?:[\w.-]+(?::\d+)?/)*[a-z0-9][\w.-]*(?::[\w.-]+)?(?:@sha256:[0-9a-f]+)?)"
# How an image is named, by the kind of file.
NAMED = {
    ".yml": (
        re.compile(rf"^[\s#-]*(?:\w+_)?image: [\"']?(?:\$\{{\w+:-)?{REFERENCE}\}}?[\"']?\s*(?:#.*)?$", re.MULTILINE),
        re.compile(rf"^\s*base_image:\n\s*name: [\"']?{REFERENCE}[\"']?$", re.MULTILINE),
    ),
    "Dockerfile": (re.compile(rf"^\s*(?:FROM|COPY\s+--from=)\s*{REFERENCE}", re.MULTILINE | re.IGNORECASE),),
    ".py": (re.compile(rf"^\s*(?:\w*IMAGE|UPSTREAM)(?:: \w+)? = \"{REFERENCE}\"", re.MULTILINE),),
}
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
MEDIA = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LARGEST = 4 * 2**20


class RegistryError(Exception):
    """Says what was asked of whom, and why there is no digest."""


def named(path: str, text: str) -> Iterator[str]:
    """The images that a file names, with a digest or without."""
    for kind, patterns in NAMED.items():
        if path.endswith(kind):
            for pattern in patterns:
                yield from (found["image"] for found in pattern.finditer(text))


def files() -> Iterator[tuple[str, str]]:
    """What git tracks of the folders that name images."""
    argv = ("git", "ls-files", "-z", *FOLDERS)
    for name in subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name.endswith(tuple(NAMED)) and not name.startswith(LEFT_OUT) and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(encoding="utf-8")


def problems(images: Mapping[str, str], reasons: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What has neither digest nor reason, and which reason is of nothing. `images`: each with a file that names it."""
    found, used = [], set()
    patterns = {pattern: why for kind in reasons.values() for pattern, why in kind.items()}
    for image, path in sorted(images.items()):
        matching = {pattern for pattern in patterns if fnmatch.fnmatchcase(image, pattern)}
        used |= matching
        if not matching and not DIGEST.search(image):
            found.append(f"{path} names {image} without a digest: add it (@sha256:…), or a reason to {REASONS.name}")
    found += [
        f"{REASONS.name} has a reason for {pattern}, which nothing names: remove it"
        for pattern in sorted({*patterns} - used)
    ]
    return found + [
        f"{REASONS.name} gives no reason for {pattern}" for pattern, why in sorted(patterns.items()) if not why
    ]


# --- registries ---


def where(image: str) -> tuple[str, str, str]:
    """Registry, repository and tag, as Docker completes a name."""
    name, _at, _digest = image.partition("@")
    name, tag = name.rsplit(":", 1) if ":" in name.rpartition("/")[2] else (name, "latest")
    registry, _slash, rest = name.partition("/")
    if not rest or not (set(".:") & set(registry) or registry == "localhost"):
        registry, rest = "registry-1.docker.io", name if "/" in name else f"library/{name}"
    return registry, rest, tag


def _ask(url: str, headers: Mapping[str, str]) -> tuple[int, Message, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=20) as answer:  # noqa: S310
            return answer.status, answer.headers, answer.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, b""
    except (OSError, HTTPException, ValueError) as error:
        raise RegistryError(f"{url} did not answer: {error}") from error


def _token(challenge: str) -> str:
    """What a registry wants of somebody who has no account: a token from the place that it names, over TLS."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.pop("realm", "")
    if not realm.startswith("https://"):
        raise RegistryError(f"the registry asks for a login that is not understood: {challenge[:200]}")
    url = f"{realm}?{urllib.parse.urlencode({key: asked[key] for key in ('service', 'scope') if key in asked})}"
    status, _headers, body = _ask(url, {})
    try:
        document = json.loads(body) if status == 200 else {}
        return str(document.get("token") or document["access_token"])
    except (ValueError, KeyError, AttributeError) as error:
        raise RegistryError(f"{realm} answered {status} and gave no token") from error


def digest_of(image: str) -> str:
    """The digest that the tag has now, of all platforms together. It is computed from what the registry sends."""
    registry, repository, tag = where(image)
    loopback = re.match(r"(localhost|127\.0\.0\.1)(:|$)", registry)
    url = f"{'http' if loopback else 'https'}://{registry}/v2/{repository}/manifests/{tag}"
    headers = {"Accept": ", ".join(MEDIA)}
    status, said, body = _ask(url, headers)
    if status == 401:
        token = _token(said.get("WWW-Authenticate", ""))
        status, said, body = _ask(url, {**headers, "Authorization": f"Bearer {token}"})
    if status != 200 or not body:
        raise RegistryError(f"{url} answered {status}")
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if said.get("Docker-Content-Digest", digest) != digest:
        raise RegistryError(f"{url} sent a document that is not the one of its Docker-Content-Digest")
    return digest


def pin(image: str, digest: str) -> list[str]:
    """Write the digest wherever the image is named, and take its reason away. The files that have changed."""
    changed = []
    whole = re.compile(rf"(?<![\w./:-]){re.escape(image)}(?![\w.@:/-])")
    for name, text in files():
        if image in named(name, text):
            (ROOT / name).write_text(whole.sub(f"{image}@{digest}", text), encoding="utf-8")
            changed.append(name)
    lines = REASONS.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.strip().strip("\"'").startswith(f"{image}:")]
    REASONS.write_text("".join(kept), encoding="utf-8")
    return changed


def main() -> int:
    reasons = yaml.safe_load(REASONS.read_text(encoding="utf-8"))
    reasons = {kind: reasons.get(kind) or {} for kind in ("by_choice", "waiting")}
    if sys.argv[1:] == ["--check"]:
        found = problems({image: name for name, text in files() for image in named(name, text)}, reasons)
        print("".join(f"pin: {problem}\n" for problem in found), end="", file=sys.stderr)
        return bool(found)
    unanswered = 0
    for image in reasons["waiting"]:
        try:
            digest = digest_of(image)
        except RegistryError as error:
            unanswered += 1
            print(
                f"COULD_NOT_VERIFY  {image}: {error}. It stays as it is. Next: run make pin where its registry answers"
            )
        else:
            print(f"{image}@{digest}: written into {', '.join(pin(image, digest))}")
    return bool(unanswered)


if __name__ == "__main__":
    sys.exit(main())
