# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mail by SMTP (RFC 5321, STARTTLS: RFC 3207, TLS at once: RFC 8314), or by the host's own sendmail."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from ..base import pipeline, web
from ..base.errors import LifeboatError, printable
from ..base.pipeline import Command
from .notices import CRITICAL, Notice, Sent

PORTS = {"starttls": 587, "tls": 465, "none": 25}
TIMEOUT = 10.0  # seconds for one reply of the server


@dataclass(frozen=True)
class Server:
    """security: starttls, tls or none. password: sent over TLS alone."""

    host: str
    port: int
    security: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_bundle: str = ""


def letter(notice: Notice, sender: str, recipients: Sequence[str]) -> bytes:
    """Return the mail. All of it is ASCII as it is sent, in short lines, so that every server takes it."""
    message = EmailMessage(policy=SMTP)
    if sender:
        message["From"] = sender
        message["Message-ID"] = make_msgid("lifeboat", sender.rpartition("@")[2] or None)
    message["To"] = ", ".join(recipients)
    message["Subject"] = f"[lifeboat] {printable(notice.title)}"  # a line break would begin another header
    message["Date"] = format_datetime(notice.at)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    if notice.severity == CRITICAL:
        message["Importance"] = "high"
    message.set_content(notice.text(), cte="quoted-printable")
    return message.as_bytes()


def send(server: Server, message: bytes, sender: str, recipients: Sequence[str]) -> Sent:
    """Send it by SMTP."""
    try:
        with _connected(server) as client:
            refused = client.sendmail(sender, list(recipients), message)
    except smtplib.SMTPRecipientsRefused as exc:
        return Sent(_refused(exc.recipients))
    except smtplib.SMTPResponseException as exc:
        return Sent(f"the server answered {exc.smtp_code}: {_answer_text(exc.smtp_error)}")
    except (smtplib.SMTPException, OSError, ValueError) as exc:
        return Sent(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)
    except LifeboatError as exc:
        return Sent(str(exc))
    return Sent(_refused(refused), partly=bool(refused))


def _connected(server: Server) -> smtplib.SMTP:
    context = web.ssl_context(server.ca_bundle) if server.security != "none" else None
    if server.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT)
    try:
        if server.security == "starttls":
            client.starttls(context=context)  # refused or not offered, it raises: nothing is sent in the clear
        if server.user:
            client.login(server.user, server.password)
    except BaseException:
        client.close()
        raise
    return client


def _refused(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{name} was refused: {code} {_answer_text(words)}" for name, (code, words) in recipients.items())


def _answer_text(answer: object) -> str:
    return pipeline.one_line(answer if isinstance(answer, (bytes, str)) else str(answer))


def hand_over(path: str, message: bytes, timeout: float) -> Sent:
    """Give it to this host's sendmail, which reads in it who gets it: no word of it is an option."""
    status, out, err = pipeline.probe(Command([path, "-i", "-t"]), timeout=timeout, given=message)
    return Sent(f"{path} ended with {status}: {pipeline.one_line(err or out)}" if status else "")
