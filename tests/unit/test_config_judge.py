# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a config backup are secrets though nobody named them: by their names, by their content, to its end."""

from __future__ import annotations

import base64
import io
import json
import sys
import urllib.parse
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import judge, scanner
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from builders import settings

PLANTED = "planted/Secret+9d1f"
PEM = b"-----BEGIN PRIVATE KEY-----\nMIIE\n"
# All but the stack's own in the clear were in config.tar.gz before.
SECRETS: dict[str, tuple[str, bytes]] = {
    "a password in a Compose file": (
        "compose.yml",
        b"services:\n  db:\n    environment:\n      DB_PASSWORD: hunter2x\n",
    ),
    "a password in another YAML file": ("vars.yaml", b"db:\n  password: 'hunter2x'\n"),
    "a default of a variable": ("compose.yml", b"services: {a: {environment: {PASSWORD: '${PASSWORD:-hunter2x}'}}}\n"),
    "an example with a real one": (".env.example", b"USER=app\nPASSWORD=hunter2x\n"),
    "a key in a distributed file": ("server.dist", PEM),
    "a secret after the first MiB": ("notes.txt", b"x\n" * (1 << 19) + b"AGE-SECRET-KEY-1QQPQ\n"),
    "one where two reads meet": ("notes.txt", b"x" * ((1 << 20) - 9) + b"\npassword=hunter2x\n"),
    "the stack's own": ("a.conf", f"x {PLANTED} y".encode()),
    "the stack's own, in base64": ("a.conf", base64.b64encode(f"app:{PLANTED}!".encode())),
    "the stack's own, percent-encoded": ("a.conf", urllib.parse.quote(PLANTED, safe="").encode()),
    "the stack's own, in a program": ("a.bin", b"\0\1" + PLANTED.encode() + b"\0"),
    "AWS": ("credentials", b"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = abc/def\n"),
    "a kubeconfig": ("config", b"users:\n- user:\n    client-key-data: LS0tLS1CRUdJTg==\n"),
    "a kubeconfig by its name": ("kubeconfig", b"apiVersion: v1\n"),
    "a token": ("deploy.sh", b"curl -H 'X: y' https://x/ # ghp_0123456789abcdef\n"),
    "a Docker login": ("config.json", b'{"auths": {"r.io": {"auth": "YXBwOmh1bnRlcjI="}}}'),
    "an address": ("app.ini", b"url = postgresql://app:hunter2x@db/shop\n"),
    "a header of a drill": ("shop.json", b'{"headers": {"X-Token": "hunter2x"}}'),
}
HARMLESS: dict[str, tuple[str, bytes]] = {
    "references": (
        "compose.yml",
        b"services:\n  db:\n    environment:\n      DB_PASSWORD: ${DB_PASSWORD:?set in .env}\n      A_TOKEN: $A_TOKEN\n"
        b"      URL: postgresql://app:${DB_PASSWORD}@db/shop\n      POSTGRES_PASSWORD_FILE: /run/secrets/db\n"
        b"    secrets: [db]\n    command: [server, --password-file, /run/secrets/db]\n"
        b"    environment: {A_TOKEN: \"$A_TOKEN\"}\nsecrets:\n  db: {file: ./db.txt}\n",
    ),
    "an example": (".env.example", b"PASSWORD=\nTOKEN=\nSECRET_KEY=change-me\nAPI_KEY=<your key>\nDSN=\n"),
    "numbers and switches": ("app.yml", b"token_minutes: 30\npassword_min_length: 12\nsecret_rotation: true\n"),
    "our own settings": (
        "shop.json",
        json.dumps({"config": {"secrets": "sealed", "secret_files": [], "recipients": ["age1qq"]}, "signing_key": "",
                    "evidence": {"signing_key": "/etc/lifeboat/key"}}, indent=1).encode(),
    ),
    "a public key": ("id_ed25519.pub", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 app@host\n"),
    "a certificate": ("ca.pem", b"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n"),
    "a web server": (
        "nginx.conf",
        b"proxy_set_header Authorization $http_authorization;\nssl_certificate_key /etc/key.pem;\n",
    ),
    "a cron file": ("lifeboat-shop", b"0 2 * * * root /usr/local/bin/lifeboat backup database --stack shop\n"),
}  # fmt: skip


def secret(tmp_path: Path, name: str, content: bytes, **more: object) -> bool:
    given = config.from_mapping(
        settings(tmp_path, config=more), {"vault_secret_key": PLANTED, "vault_access_key": "name-of-key"}
    )
    return judge.secret_filter(given)(str(tmp_path / name), io.BytesIO(content))


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_found_whatever_the_file_is_called(tmp_path: Path, what: str) -> None:
    assert secret(tmp_path, *SECRETS[what])


@pytest.mark.parametrize("what", HARMLESS)
def test_what_only_refers_to_secrets_is_kept(tmp_path: Path, what: str) -> None:
    assert not secret(tmp_path, *HARMLESS[what])


def test_the_name_of_a_key_is_no_secret(tmp_path: Path) -> None:
    assert not secret(tmp_path, "a.conf", b"key name-of-key")


def test_the_operator_may_say_that_a_file_holds_none(tmp_path: Path) -> None:
    name, content = SECRETS["a password in another YAML file"]
    (tmp_path / name).write_bytes(content)
    assert not secret(tmp_path, name, content, plain_files=[str(tmp_path / name)])


# --- the second check ---

# It tells of the last file that it was given, by its name below -C.
SCANNER = """#!/bin/sh
printf '%s\\n' "$@" >"$0.words"
{end}
for name; do :; done
printf '{{"version": "1.5.0", "results": {{"%s": [{{"type": "JSON Web Token", "line_number": 1}}]}}}}' "${{name#$2/}}"
"""
ENDS = {
    "exits": ("echo 'cannot read password=hunter2x' >&2; exit 3", "exited 3: cannot read password="),
    "no JSON": ("echo hello; exit 0", "its answer cannot be read"),
    "another JSON": ("echo '[]'; exit 0", "its answer cannot be read"),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in may be installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(scanner, "PLACES", str(folder))
    return folder


def installed(places: Path, end: str = "") -> Path:
    command = places / "detect-secrets"
    command.write_text(SCANNER.format(end=end))
    command.chmod(0o755)
    return command


def test_without_detect_secrets_nothing_is_run(places: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert scanner.scan([str(tmp_path)], said.append) == frozenset()
    assert said == []


def test_what_detect_secrets_sees_is_a_secret_too_unless_the_operator_says_otherwise(
    places: Path, tmp_path: Path
) -> None:
    command, below = installed(places), tmp_path / "named"
    never = below / "never"
    never.mkdir(parents=True)
    for path in (below / "a.conf", below / "z.conf", never / "zz.conf"):
        path.write_text("x\n")
    (below / "zlarge.conf").write_bytes(b"x" * (scanner.LARGEST + 1))
    (below / "zlink.conf").symlink_to(below / "a.conf")
    also = scanner.scan([str(below)], pytest.fail, never={str(never)})
    assert also == {str(below / "z.conf")}
    words = Path(f"{command}.words").read_text().split()
    assert words[:5] == ["-C", str(below), "scan", "--all-files", "--no-verify"], "no token is sent to its issuer"
    assert [word for word in words[2:] if word.startswith("/")] == [str(below / "a.conf"), str(below / "z.conf")]
    given = config.from_mapping(settings(tmp_path), {})
    assert judge.secret_filter(given, (), also)(str(below / "z.conf"), io.BytesIO(b"x\n"))
    assert not judge.secret_filter(given, (), also)(str(below / "a.conf"), io.BytesIO(b"x\n"))
    assert judge.secret_filter(given, (), also)(str(below / "a.conf"), io.BytesIO(PEM)), "it takes nothing away"
    assert not judge.secret_filter(given, [str(below / "z.conf")], also)(str(below / "z.conf"), io.BytesIO(b"x\n"))


@pytest.mark.parametrize("end", ENDS)
def test_a_second_check_that_fails_is_told_and_stops_nothing(places: Path, tmp_path: Path, end: str) -> None:
    how, why = ENDS[end]
    installed(places, how)
    (tmp_path / "a.conf").write_text("x\n")
    said: list[str] = []
    assert scanner.scan([str(tmp_path / "a.conf")], said.append) == frozenset()
    assert why in said[0]
    assert "hunter2x" not in said[0]


def test_what_detect_secrets_would_pass_over_is_told(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(places)
    monkeypatch.setattr(scanner, "_suits", lambda path: path == "/shop.conf")
    said: list[str] = []
    assert scanner.scan(["/shop.conf"], said.append) == frozenset()
    assert said == ["detect-secrets, the second check for secrets, was not made of /shop.conf"]


@pytest.mark.slow
def test_real_detect_secrets_finds_tokens_in_what_the_judge_keeps_and_none_in_the_labs_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI always: of the lab's files all that a config backup keeps in the clear is looked at."""
    monkeypatch.setattr(scanner, "PLACES", str(Path(sys.executable).parent))
    root = Path(__file__).resolve().parents[2]
    kept = tmp_path / "kept"
    for number, path in enumerate(
        path
        for folder in ("tests/lab/shop", "molecule/foreign_stack/files", "inventories/example", "tests/lab/frontend")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.suffix in ("", ".yml", ".json", ".py", ".sql", ".js", ".html", ".example")
    ):
        content = path.read_bytes()
        if not secret(tmp_path, path.name, content):
            (kept / str(number)).mkdir(parents=True)
            (kept / str(number) / path.name).write_bytes(content)
    assert len(list(kept.iterdir())) > 8
    (tmp_path / "token.conf").write_text(
        "notify: " + "xox" + "b-" + "123456789012-123456789012-" + "abcdefghijklmnopqrstuvwx\n"
    )
    (kept / "0" / "token.conf").write_text((tmp_path / "token.conf").read_text())
    tokens = {str(tmp_path / "token.conf"), str(kept / "0" / "token.conf")}
    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert scanner.scan([str(kept), str(tmp_path / "token.conf")], pytest.fail) == tokens
