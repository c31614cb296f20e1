"""Runs on the host: make a copy of a repository and break one thing in it.

Usage: mutate.py REPOSITORY COPY NEWER OLDER TARGET MUTATION
Prints which file was broken. Fails when the mutation changed nothing, so that no test passes by accident.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys


def seal(body):
    unsealed = {key: value for key, value in body.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find(folder, target):
    """Of the application's database, whose artefacts lie in no folder of another one."""
    own = [path for path in folder.rglob("*") if "databases" not in path.parts and path.is_file()]
    if target == "data":  # the biggest table's file, or the whole dump where it is one file
        files = [path for path in own if path.suffix in (".zst", ".gz", ".dump") and "globals" not in path.name]
        return max(files, key=lambda path: path.stat().st_size)
    return next(path for path in own if path.name == target)


def replace(path, data):
    """A new file: the copy shares its files with the original by hard links."""
    before = path.read_bytes()
    assert data != before, f"the mutation changed nothing in {path.name}"
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def reseal(folder, changed=None, **fields):
    """Make the manifest agree with itself again, as a forger would."""
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    body.update(fields)
    for artefact in body["artefacts"]:
        if changed is not None and folder / artefact["name"] == changed:
            data = changed.read_bytes()
            artefact.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    body["seal"] = seal(body)
    replace(path, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())


def twin(folder, older, path):
    """The file of the older backup that plays the same part."""
    return find(older, "data") if path == find(folder, "data") else older / path.relative_to(folder)


def main():
    repository, copy, newer, older, target, mutation = sys.argv[1:]
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(repository, copy, copy_function=os.link)
    folder = next(pathlib.Path(copy).rglob(newer))
    other = next(pathlib.Path(copy).rglob(older))
    path = find(folder, target)
    data = path.read_bytes()
    middle = len(data) // 2
    if mutation == "truncate 1 byte":
        replace(path, data[:-1])
    elif mutation == "truncate half":
        replace(path, data[:middle])
    elif mutation == "flip one bit":
        replace(path, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif mutation == "empty":
        replace(path, b"")
    elif mutation == "swap with the older one":
        replace(path, twin(folder, other, path).read_bytes())
    elif mutation == "delete":
        path.unlink()
    elif mutation == "add a file":
        path.with_name("stranger").write_bytes(b"not yours")
    elif mutation == "edit":
        replace(path, data.replace(b'"stack"', b'"stakc"', 1))
    elif mutation == "rename and reseal":
        reseal(folder, id=older)
    elif mutation == "swap and reseal":
        replace(path, twin(folder, other, path).read_bytes())
        reseal(folder, path)
    elif mutation == "fewer rows and reseal":
        body = json.loads(data)
        name = next(table for table, facts in body["tables"].items() if facts["rows"])
        body["tables"][name]["rows"] -= 1
        replace(path, json.dumps(body, indent=1, ensure_ascii=False).encode())
        reseal(folder, path)
    else:
        sys.exit(f"unknown mutation {mutation}")
    print(path.relative_to(folder))


main()
