"""What the lab's shop keeps besides rows and objects, as the kernel, SQLite, mariadb and valkey-cli have it."""

from __future__ import annotations

from pathlib import Path

from support import Host

TREE = (Path(__file__).parent / "tree.py").read_text(encoding="utf-8")
KINDS = {"item", "file", "upload", "review", "basket"}  # what a drill's writer writes
LEDGER = "/var/lib/lifeboat/shop/drill/ledger.jsonl"
_MARIADB = r"""
set -eu
. /srv/shop/.env
export MYSQL_PWD="$MARIADB_ROOT_PASSWORD"
docker compose --project-directory /srv/shop exec -T -e MYSQL_PWD mariadb \
    mariadb -uroot -N -B --default-character-set=utf8mb4 -e "$0"
"""
_REVIEWS = "SELECT * FROM shop.reviews ORDER BY id; SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2"
# The type of a key and what it holds; the order of SCAN is the server's own.
_VALKEY = r"""
set -eu
. /srv/shop/.env
export REDISCLI_AUTH="$VALKEY_PASSWORD"
ask() { docker compose --project-directory /srv/shop exec -T -e REDISCLI_AUTH valkey valkey-cli "$@"; }
ask --scan | sort > /var/tmp/keys
sed 's/^/GET /' /var/tmp/keys | ask | paste -d ' ' /var/tmp/keys -
"""


def portrait(host: Host) -> list[str]:
    volume = host.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "shop_uploads").strip()
    return [
        *host.python(TREE, volume).splitlines(),
        *host.run("sh", "-c", _MARIADB, _REVIEWS).splitlines(),
        *host.run("sh", "-c", _VALKEY).splitlines(),
    ]
