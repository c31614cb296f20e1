# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is a file a secret that nobody named as one? Its name may say so; else its content decides, to its end.

Content is judged by the forms in which pipeline.scrub() knows secrets, and by the stack's own secrets in any encoding.
A reference to a secret is none: `${PASSWORD}`, the path of a file, and the words that examples have.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Container, Iterable
from typing import IO

from ..base import pipeline
from ..settings.config import Config
from ..tools import tar

_CHUNK, _OVERLAP = 1 << 20, 16 << 10
_NAMES = (
    ".env", ".env.*", "*.env", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_rsa*", "id_ed25519*", "id_ecdsa*",
    "*.secrets.json", "*.secret", ".pgpass", ".netrc", ".git-credentials", ".htpasswd", "kubeconfig", "*.kubeconfig",
    ".dockercfg", ".npmrc", ".pypirc",
)  # fmt: skip
_EXAMPLES = (".example", ".sample", ".template", ".dist", ".pub")
_WORDS = (b"PRIVATE KEY-----", b"AGE-SECRET-KEY-1", b"BEGIN AGE ENCRYPTED FILE")
_HAS_DEFAULT = re.compile(r"\$\{\w+:?-([^{}]+)\}")
_VALUE = r"""(?m)((?:=>|:=|[=:])[ \t]*\\?["']?)"""
# What stands in a secret's place without being one.
_REFERENCES = tuple(
    re.compile(pattern)
    for pattern in (
        r"()(?:\$\{[^{}]*\}|\$?\$\w+|\$\(\w+\)|\{\{[^{}]*\}\}|<[\w -]*>)",
        _VALUE + r"/(?!/)[\w./@-]+",
        _VALUE + r"\d{1,5}(?=[\"']?[\s,}]|$)",
        _VALUE
        + r"(?i:change[-_]?(?:me|it)|your[-_][\w-]+|example|placeholder|redacted|x{3,}|\.{3}|…)(?=[\"']?[\s,}]|$)",
    )
)


def secret_filter(config: Config, read: Iterable[str] = (), also: Container[str] = ()) -> tar.KeepOut:
    """Return the function that a Packer calls with each file's path and content: True keeps the file out.

    read: what Compose reads, without which nothing can be recovered: kept as the operator wrote it, as plain_files are.
    also: files in which another check has found a secret.
    """
    # Access keys are names, not secrets: `lifeboat` is one that many files hold.
    ours = [value for name, value in config.secrets.items() if not name.endswith("_access_key")]
    planted = [
        face.encode() for value in ours if len(value) >= pipeline.SECRET_LENGTH for face in pipeline.faces(value)
    ]
    openly = {tar.followed(path)[0] for path in (*config.config.plain_files, *read)}

    def judge(path: str, content: IO[bytes]) -> bool:
        if path in openly:
            return False
        name = os.path.basename(path)
        if path in also:
            return True
        if any(fnmatch.fnmatch(name, text) for text in _NAMES) and not name.endswith(_EXAMPLES):
            return True
        return _holds(content, planted)

    return judge


def _holds(content: IO[bytes], planted: Iterable[bytes]) -> bool:
    wanted, before = (*_WORDS, *planted), b""
    while data := content.read(_CHUNK):
        data = before + data
        if any(word in data for word in wanted) or tells(data.decode("utf-8", "replace")):
            return True
        before = data[-_OVERLAP:]
    return False


def tells(text: str) -> bool:
    """Return whether a text has a secret in one of the known forms, and not only a reference to one."""
    text = _HAS_DEFAULT.sub(r"\1", text)
    for reference in _REFERENCES:
        text = reference.sub(rf"\g<1>{pipeline.BLANK}", text)
    return pipeline.scrub(text) != text
