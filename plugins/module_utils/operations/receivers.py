# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each kind of receiver is told, and the secret that it takes: an address, a key or a password."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..base import pipeline, web
from ..settings.config import Config
from ..settings.parts import AnyReceiver, MailReceiver, NtfyReceiver, PagerDutyReceiver, SlackReceiver
from ..tools import mail, webhooks
from ..tools.notices import Notice, Sent, shortened

PATIENCE = 20.0  # seconds that a run may wait for all receivers together
_PREFIX = "notify_"  # of the secrets
_TOPIC = re.compile(r"/[-_A-Za-z0-9]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9]{32}")
_TOKEN = re.compile(r"[!-~]+")


def deliver(config: Config, receiver: AnyReceiver, notice: Notice) -> Sent:
    """Send one notice to one receiver."""
    wrong = problem(config.secrets, receiver)
    if wrong:
        return Sent(wrong)
    value = _secret(config.secrets, receiver)
    if isinstance(receiver, MailReceiver):
        message = mail.letter(notice, receiver.sender, receiver.recipients)
        if not receiver.host:
            return mail.hand_over(receiver.sendmail, message, PATIENCE)
        port = receiver.port or mail.PORTS[receiver.security]
        server = mail.Server(receiver.host, port, receiver.security, receiver.user, value, receiver.ca_bundle)
        return mail.send(server, message, receiver.sender, receiver.recipients)
    if isinstance(receiver, PagerDutyReceiver):
        requests = webhooks.pagerduty(receiver.url, value, notice)
    elif isinstance(receiver, SlackReceiver):
        requests = webhooks.slack(value, notice)
    elif isinstance(receiver, NtfyReceiver):
        requests = webhooks.ntfy(value, notice)
    else:
        requests = webhooks.webhook(value, notice)
    token = _secret(config.secrets, receiver, "_token")
    problems = (webhooks.post(request, token=token, ca_bundle=receiver.ca_bundle) for request in requests)
    return Sent(next(filter(None, problems), ""))


def _secret(secrets: Mapping[str, str], receiver: AnyReceiver, more: str = "") -> str:
    """Return a secret of the receiver without the newline that its file had. more: `_token`."""
    return secrets.get(f"{_PREFIX}{receiver.name}{more}", "").strip()


def problem(secrets: Mapping[str, str], receiver: AnyReceiver) -> str:
    """Return why a receiver's secret cannot be used, without showing it; empty where it can."""
    name, value = f"lifeboat_secrets.{_PREFIX}{receiver.name}", _secret(secrets, receiver)
    if isinstance(receiver, MailReceiver):
        return f"{name} is missing, the password of {receiver.user}" if receiver.user and not value else ""
    if not value:
        return f"{name} is missing"
    token = _secret(secrets, receiver, "_token")
    if token and not _TOKEN.fullmatch(token):
        return f"{name}_token has a blank or another character that no token has"
    if isinstance(receiver, PagerDutyReceiver):
        return "" if _KEY.fullmatch(value) else f"{name} is not an integration key of Events API v2, 32 letters"
    wrong = web.address_problem(value)
    if not wrong and isinstance(receiver, NtfyReceiver) and not _TOPIC.fullmatch(web.path(value)):
        wrong = "it is not the address of one topic, such as https://ntfy.sh/<topic>"
    return f"{name}: {wrong}" if wrong else ""


def safe(config: Config, text: str, most: int) -> str:
    """Return a text on one line that prints, of so many characters and without secrets."""
    return shortened(pipeline.scrub(text, _hidden(config.secrets)), most)


def _hidden(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return what no text may show: the secrets, as they are sent, and the parts of an address that make it one. The
    longest first, as one may be a part of another."""
    known = {name: value.strip() for name, value in secrets.items() if name.startswith(_PREFIX)}
    addresses = {name: value for name, value in known.items() if not web.address_problem(value)}
    for name, address in addresses.items():
        known.update({f"{name} {number}": part for number, part in enumerate(web.secret_parts(address))})
    known = {**secrets, **known}
    return {name: known[name] for name in sorted(known, key=lambda name: -len(known[name]))}
