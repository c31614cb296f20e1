# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a config backup are secrets though nobody named them: by their names, by their content, to its end."""

from __future__ import annotations

import base64
import io
import json
import urllib.parse
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import judge
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
    "a secret after the first MiB": ("notes.txt", b"x\n" * (3 << 19) + b"AGE-SECRET-KEY-1QQPQ\n"),
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
    return judge.of(given)(str(tmp_path / name), io.BytesIO(content))


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
