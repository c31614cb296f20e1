# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is a certificate its own issuer? The standard library does not tell, and only two fields of it are needed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION = 0x30, 0xA0
_ISSUER, _SUBJECT = 2, 4  # after the version: serial number, signature, issuer, validity, subject (RFC 5280, 4.1)


def self_signed(text: str) -> bool:
    """Whether the first certificate in a PEM file names itself as its issuer. Raises ValueError where there is none."""
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        raise ValueError("no certificate")
    der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)])
    (certificate,) = _parts(der)
    signed = next(_parts(_inside(certificate)), b"")
    fields = [part for part in _parts(_inside(signed)) if part[0] != _VERSION]
    if len(fields) <= _SUBJECT:
        raise ValueError("no certificate")
    return fields[_ISSUER] == fields[_SUBJECT]


def _inside(part: bytes) -> bytes:
    if part[:1] != bytes([_SEQUENCE]):
        raise ValueError("no certificate")
    return part[_head(part) :]


def _parts(data: bytes) -> Iterator[bytes]:
    """The values that stand in it, each with its head."""
    while data:
        whole = _head(data) + _length(data)
        if len(data) < whole:
            raise ValueError("a certificate that is cut off")
        yield data[:whole]
        data = data[whole:]


def _head(data: bytes) -> int:
    if len(data) < 2:
        raise ValueError("a certificate that is cut off")
    return 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)


def _length(data: bytes) -> int:
    return int.from_bytes(data[2 : _head(data)], "big") if data[1] & 0x80 else data[1]
