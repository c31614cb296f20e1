# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenSSH's server on the loopback, as it is installed or as Debian's package brings it; for root."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import debian
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.sftp import command

needs_sshd = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED by OpenSSH's server: this is not root")
# What is not installed stands where it would, for this process alone: its programs, and the user that it becomes.
PLACED = """
mount --bind "$1/../lib/openssh" /usr/lib/openssh
mount --bind "$2" /etc/passwd
export LD_LIBRARY_PATH=$(dirname "$(find "$1/../lib" -name 'libwrap.so.0')") # of its packages
shift 2
exec "$@"
"""


def server(root: Path) -> list[str]:
    """The command, with which its options begin."""
    sshd = Path(debian.required("sshd"))
    if sshd.is_relative_to("/usr"):
        return [str(sshd)]
    known = root / "passwd"
    known.write_text(f"{Path('/etc/passwd').read_text()}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    return ["unshare", "--mount", "sh", "-ec", PLACED, "sh", str(sshd.parent), str(known), str(sshd)]


class Host:
    """An sshd on an unprivileged port, with the account as the role vault_keeper sets it up, for root's own name."""

    def __init__(self, root: Path, served: Path, options: str = "restrict", opens: str = "") -> None:
        """options: of the client's key. opens: the one port that is forwarded."""
        self.root = root
        for name in ("host", "client", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (root / "authorized").write_text(f"{options} {(root / 'client.pub').read_text()}")
        forwards = f"AllowTcpForwarding local\nPermitOpen {opens}\n" if opens else "DisableForwarding yes\n"
        (root / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {root / 'host'}\nPidFile none\nUsePAM no\n"
            f"StrictModes no\nAuthorizedKeysFile {root / 'authorized'}\nPermitRootLogin prohibit-password\n"
            f"ForceCommand internal-sftp -R -d {served}\nSubsystem sftp internal-sftp\nPermitTTY no\n"
            f"{forwards}PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        self.pin("host")
        Path("/run/sshd").mkdir(exist_ok=True)
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen([*server(root), "-D", "-e", "-f", str(root / "config")], stderr=log)
        for _turn in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)

    def pin(self, key: str) -> None:
        words = (self.root / f"{key}.pub").read_text().split()[:2]
        (self.root / "known").write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")

    def argv(self, key: str = "client", forward: str = "") -> list[str]:
        return command("127.0.0.1", self.port, "root", str(self.root / key), str(self.root / "known"), forward)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
