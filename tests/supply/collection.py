#!/usr/bin/env python3
"""Build the collection from a commit, so that everybody who builds that commit gets the same file, bit by bit.

ansible-galaxy writes the time of the build and the order in which the file system lists folders; both are replaced, by
the commit's time and by the order of names. With --key the manifest, by which the SHA-256 of every file is known, is
signed with OpenPGP: `ansible-galaxy collection install` checks that with --keyring.

Usage: collection.py [--output dist] [--commit HEAD] [--key USER-ID]     (make collection KEY=…)
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST = ("MANIFEST.json", "FILES.json")  # ansible-galaxy reads them before the others


def ran(*argv: str | Path, given: bytes | None = None) -> bytes:
    done = subprocess.run(argv, cwd=ROOT, input=given, capture_output=True, timeout=300, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        sys.exit(f"collection: {' '.join(map(str, argv[:3]))} exited {done.returncode}: {said}")
    return done.stdout


def exported(commit: str, folder: Path) -> None:
    """What git has of the commit: what lies around in a checkout is not in the collection."""
    with tarfile.open(fileobj=io.BytesIO(ran("git", "archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="data")


def as_built(folder: Path, work: Path) -> bytes:
    # The one next to this interpreter: `make setup` has locked it.
    ran(Path(sys.executable).parent / "ansible-galaxy", "collection", "build", "--output-path", work, folder)
    (artefact,) = work.glob("*.tar.gz")
    return artefact.read_bytes()


def content_of(archive: tarfile.TarFile, name: str) -> bytes:
    if not (stream := archive.extractfile(name)):
        sys.exit(f"collection: {name} of the built archive is not a file")
    return stream.read()


def ordered(built: bytes, when: int) -> bytes:
    """The same files, in the order of their names, with one time and no owner."""
    with tarfile.open(fileobj=io.BytesIO(built), mode="r:gz") as archive:
        members = {member.name: member for member in archive}
        contents = {name: content_of(archive, name) for name, member in members.items() if member.isfile()}
    files = json.loads(contents["FILES.json"])
    files["files"].sort(key=lambda entry: entry["name"])
    contents["FILES.json"] = json.dumps(files, indent=1).encode()
    manifest = json.loads(contents["MANIFEST.json"])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(contents["FILES.json"]).hexdigest()
    contents["MANIFEST.json"] = json.dumps(manifest, indent=1).encode()
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in (*FIRST, *sorted(set(members) - set(FIRST))):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = members[name].type, members[name].linkname, when
            # ansible-galaxy keeps 0755 for what can be run, 0644 for the rest; of a link it keeps what the system says.
            member.mode = 0o777 if members[name].issym() else members[name].mode
            member.size = len(contents.get(name, b""))
            archive.addfile(member, io.BytesIO(contents.get(name, b"")))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=when) as stream:
        stream.write(unpacked.getvalue())
    return packed.getvalue()


def build(commit: str, output: Path) -> Path:
    when = int(ran("git", "show", "--no-patch", "--format=%ct", commit))
    with tempfile.TemporaryDirectory() as work:
        tree, built = Path(work, "tree"), Path(work, "built")
        built.mkdir()
        exported(commit, tree)
        content = ordered(as_built(tree, built), when)
        name = next(built.iterdir()).name
    output.mkdir(parents=True, exist_ok=True)
    (output / name).write_bytes(content)
    return output / name


def signed(artefact: Path, key: str) -> Path:
    """A detached signature of the manifest. gpg asks its agent for the passphrase."""
    with tarfile.open(artefact) as archive:
        manifest = content_of(archive, FIRST[0])
    target = artefact.with_name(artefact.name.removesuffix(".tar.gz") + ".manifest.asc")
    target.unlink(missing_ok=True)
    ran("gpg", "--batch", "--local-user", key, "--armor", "--detach-sign", "--output", target, given=manifest)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--key", default="", help="the releaser's OpenPGP key, as gpg --local-user takes it")
    options = parser.parse_args()
    artefact = build(options.commit, options.output)
    print(f"{hashlib.sha256(artefact.read_bytes()).hexdigest()}  {artefact}")
    print(
        f"{signed(artefact, options.key)}: signed by {options.key}"
        if options.key
        else "not signed: make collection KEY=…"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
