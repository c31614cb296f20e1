"""What makes each alert of monitoring/rules fire on the lab, and what repairs it.

A cause is what happens to an operator. Only days that pass are not waited for: `faketime` runs Lifeboat's own command
with another clock, as it ran then, or by a clock that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

STATE = "/var/lib/lifeboat/shop"
TELL = "lifeboat metrics --stack shop"
ASK = "lifeboat metrics --ask --stack shop"
# Of a backup of the database that goes on, or was killed.
BEGUN = "/var/lib/lifeboat/shop/runs/backup_database.*.begun"
# A host whose backups are gone, or were never taken: the directory is put aside, and put back.
AWAY = "mkdir /backup.away && mv /backup/* /backup.away/ && mv /var/lib/lifeboat/shop /var/lib/lifeboat/away"
BACK = (
    "rm -rf /backup/* /var/lib/lifeboat/shop && mv /backup.away/* /backup/ && rmdir /backup.away"
    " && mv /var/lib/lifeboat/away /var/lib/lifeboat/shop"
)
SETTING = (
    "DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq -y --no-install-recommends install faketime"
)
PSQL = "docker exec shop-db-1 psql -U shop -c"
# In the vault, with its own key: when the escrowed key last opened a backup, and the newest copy of the database.
CURL = "curl --silent --fail --config /etc/lifeboat-vault/curl"
# A container of the project that its Compose file does not name; it has ended. Its volume holds a file: an empty one is
# no state, because an image asks for it and nothing is kept there.
STRAY = (
    "docker run --name stray --label com.docker.compose.project=shop --label com.docker.compose.service=stray"
    " --label com.docker.compose.oneoff=False --volume /uploads --network none --user 0 --entrypoint /bin/sh"
    " lifeboat-lab/backend:1 -c 'echo one >/uploads/one'"
)
BUCKET = "http://127.0.0.1:8333/shop-repository"
ESCROW = f"{BUCKET}/shop/recovery-points/escrow-shop.json"
OLDER = 'import json, sys; old = json.load(sys.stdin); old["at"] = "2026-01-01T00:00:00Z"; print(json.dumps(old))'
COPY = f"{CURL} '{BUCKET}?list-type=2&prefix=shop/postgresql/' | grep -o '[^>]*/manifest.json' | tail -n 1"
# The largest file of the newest backup of the database gets other bytes in the middle, and somebody verifies it.
DAMAGE = (
    "lifeboat backup database --stack shop && cd /backup/postgresql && cd $(ls | tail -n 1)"
    " && file=$(find . -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2)"
    " && dd if=/dev/urandom of=$file bs=64 count=1 seek=$(($(stat -c %s $file) / 128)) conv=notrunc"
    " && lifeboat verify $(basename $PWD) --level checksum --stack shop"
)
AFTER_DAMAGE = (
    "rm -r /backup/postgresql/$(ls /backup/postgresql | tail -n 1) && lifeboat backup database --stack shop"
    " && lifeboat verify $(ls /backup/postgresql | tail -n 1) --level checksum --stack shop"
)
# One call of the stack's own store, with its key, on a bucket that the inventory does not name.
STORE = """python3 -c '
import sys, boto3
env = dict(line.strip().split("=", 1) for line in open("/srv/shop/.env") if "=" in line)
s3 = boto3.client("s3", endpoint_url="http://127.0.0.1:8333", region_name="us-east-1",
    aws_access_key_id=env["S3_ACCESS_KEY"], aws_secret_access_key=env["S3_SECRET_KEY"])
getattr(s3, sys.argv[1])(Bucket="added")'"""
VAULT_AWAY = "systemctl stop lifeboat-vault"
VAULT_BACK = (
    "systemctl start lifeboat-vault && until curl --silent --output /dev/null http://127.0.0.1:8333/; do sleep 1; done"
)


def _small(times: int) -> str:
    """A disk on which as much is left as so many of the largest backup need."""
    largest = "$(awk '/^lifeboat_repository_largest_backup_bytes/ {print $2}' /var/lib/prometheus/node-exporter/*.prom)"
    size = f"$(($(du --summarize --block-size=1 /backup | cut -f1) + 10000000 + {times} * {largest}))"
    return (
        f"mkdir /backup.away && mount -t tmpfs -o size={size} none /backup.away && cp -a /backup/. /backup.away/"
        " && mount --move /backup.away /backup"
    )


LARGE = "umount /backup; rmdir /backup.away"
# The site has an address with TLS now, whose certificate is of a week.
SITE = """openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout /run/site.key -out /run/site.pem
systemd-run --unit site-tls openssl s_server -quiet -www -accept 8443 -key /run/site.key -cert /run/site.pem
until openssl s_client -connect 127.0.0.1:8443 </dev/null >/dev/null 2>&1; do sleep 0.2; done
cp --archive /etc/lifeboat/shop.json /etc/lifeboat/shop.json.away
python3 -c '
import json, pathlib
path = pathlib.Path("/etc/lifeboat/shop.json")
settings = json.loads(path.read_text())
settings["frontend"].update(url="https://127.0.0.1:8443/", ca_bundle="/run/site.pem")
path.write_text(json.dumps(settings))'
"""
SITE_AS_IT_WAS = "mv /etc/lifeboat/shop.json.away /etc/lifeboat/shop.json; systemctl stop site-tls"


@dataclass(frozen=True)
class Cause:
    """cause, repair: what root types on the stack's host; vault_…: on the vault's, before that; a keeper's after it.

    labels: which of the alerts of this name is meant.
    """

    rule: str
    words: str
    cause: str = ""
    repair: str = ""
    vault_cause: str = ""
    vault_repair: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.rule} by {self.words}"


def _of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(labels.items())


CAUSES = (
    Cause(
        "LifeboatStackAbsent",
        "node_exporter stopped",
        "systemctl stop prometheus-node-exporter",
        "systemctl start prometheus-node-exporter",
    ),
    Cause(
        "LifeboatMetricsOld",
        "cron stopped 20 minutes ago",
        f"systemctl stop cron; faketime '20 minutes ago' {TELL}",
        f"systemctl start cron; {TELL}",
    ),
    Cause(
        "LifeboatFactsUnreadable",
        "the engine stopped",
        f"docker compose --project-directory /srv/shop stop db; {ASK}",
        f"docker compose --project-directory /srv/shop up --wait; {ASK}",
        labels=_of(collector="quarantine"),
    ),
    Cause(
        "LifeboatDatabaseDown",
        "its service stopped",
        f"docker compose --project-directory /srv/shop stop db; {TELL}",
        f"docker compose --project-directory /srv/shop up --wait; {TELL}",
    ),
    Cause(
        "LifeboatStatusOld",
        "nobody asked the vault and the database yet",
        f"rm {STATE}/asked.json; {TELL}",
        ASK,
    ),
    Cause(
        "LifeboatBackupStale",
        "no backup at all",
        f"{AWAY}; {TELL}",
        f"{BACK}; {ASK}",
        labels=_of(of="database"),
    ),
    Cause(
        "LifeboatRepositoryNotKnown",
        "an empty directory where the disk was",
        f"mkdir /backup.away && mount --bind /backup /backup.away && mount -t tmpfs none /backup; {TELL}",
        f"umount /backup && umount /backup.away && rmdir /backup.away; {TELL}",
    ),
    Cause(
        "LifeboatBackupKilled",
        "kill -9 in the middle of a backup",
        f"lifeboat backup database --stack shop & for _ in $(seq 300); do ls {BEGUN} && break; sleep 0.1; done;"
        # It stands still until Prometheus has seen that it goes on, which the dashboards show.
        f" kill -STOP $!; {TELL}; sleep 20; kill -9 $!; {TELL}",
        f"lifeboat backup database --stack shop && {TELL}",
    ),
    Cause(
        "LifeboatSecretsReadable",
        "a file of secrets that all may read",
        f"chmod 0644 /etc/lifeboat/shop.secrets.json; {ASK}",
        f"chmod 0600 /etc/lifeboat/shop.secrets.json; {ASK}",
    ),
    Cause(
        "LifeboatRecoveryPointStale",
        "backups that nothing ties",
        f"mv /backup/recovery-points /backup/recovery-points.away; {ASK}",
        f"rm -rf /backup/recovery-points; mv /backup/recovery-points.away /backup/recovery-points; {ASK}",
    ),
    Cause(
        "LifeboatCopyStale",
        "a first backup while the vault was away",
        f"{AWAY}; lifeboat backup database --stack shop; {TELL}",
        f"{BACK}; {ASK}",
        VAULT_AWAY,
        VAULT_BACK,
        labels=_of(of="database"),
    ),
    Cause(
        "LifeboatRetentionOverdue",
        "retention that was never applied",
        f"rm {STATE}/pruned.json; {TELL}",
        f"lifeboat prune --stack shop; {TELL}",
    ),
    Cause(
        "LifeboatRunFailed",
        "the vault away during a backup",
        "lifeboat backup database --stack shop",
        "lifeboat backup database --stack shop",
        VAULT_AWAY,
        VAULT_BACK,
        labels=_of(run="backup_database"),
    ),
    Cause(
        "LifeboatVerificationOverdue",
        "backups that nobody restored",
        f"{AWAY}; lifeboat backup database --stack shop",
        f"{BACK}; {ASK}",
        labels=_of(of="database"),
    ),
    Cause(
        "LifeboatStatusNotPassed",
        "a bucket that somebody added",
        f"{STORE} create_bucket && lifeboat backup objects --stack shop && {ASK}",
        f"{STORE} delete_bucket && lifeboat backup objects --stack shop && {ASK}",
        labels=_of(check="buckets"),
    ),
    Cause("LifeboatNewestBackupBad", "a damaged backup", DAMAGE, AFTER_DAMAGE, labels=_of(component="database")),
    Cause("LifeboatVerdictNotPass", "a damaged backup that was verified", DAMAGE, AFTER_DAMAGE),
    Cause(
        "LifeboatDutyUnknown",
        "a key that was never shown to open a backup",
        ASK,
        ASK,
        f"{CURL} {ESCROW} > /run/escrow.json && {CURL} --request DELETE {ESCROW}",
        f"{CURL} --upload-file /run/escrow.json {ESCROW}",
        labels=_of(duty="escrow"),
    ),
    Cause(
        "LifeboatEscrowOverdue",
        "a key that was last shown at New Year",
        ASK,
        f"lifeboat escrow --identity /run/age.key --stack shop && {ASK}",
        f"{CURL} {ESCROW} | python3 -c '{OLDER}' > /run/escrow.json && {CURL} --upload-file /run/escrow.json {ESCROW}",
    ),
    Cause(
        "LifeboatCopiesMissing",
        "a copy that somebody deleted",
        ASK,
        f"lifeboat backup --stack shop; {ASK}",
        f"{CURL} --request DELETE {BUCKET}/$({COPY})",
    ),
    Cause(
        "LifeboatUnprotectedData",
        "a bucket that nobody chose",
        f"{STORE} create_bucket && lifeboat backup objects --stack shop",
        f"{STORE} delete_bucket && lifeboat backup objects --stack shop",
        labels=_of(component="objects"),
    ),
    Cause(
        "LifeboatMountUnprotected",
        "a container with a volume of its own",
        f"{STRAY}; {ASK}",
        f"docker rm --force --volumes stray && {ASK}",
        labels=_of(protection="unprotected"),
    ),
    Cause(
        "LifeboatSizeDrop",
        "a table emptied",
        f"{PSQL} 'CREATE TABLE filler AS SELECT g, md5(g::text) FROM generate_series(1, 2000000) g'"
        " && for n in 1 2 3 4; do lifeboat backup database --stack shop; done"
        f" && {PSQL} 'TRUNCATE filler' && lifeboat backup database --stack shop",
        f"{PSQL} 'INSERT INTO filler SELECT g, md5(g::text) FROM generate_series(1, 2000000) g'"
        " && lifeboat backup database --stack shop",
        labels=_of(component="database"),
    ),
    Cause(
        "LifeboatQuarantineOld",
        "what a recovery moved aside in October",
        f"install -D -m 600 /srv/shop/.env {STATE}/quarantine/20261001_000000/srv/shop/.env; {ASK}",
        f"rm -r {STATE}/quarantine; {ASK}",
        labels=_of(kind="directory"),
    ),
    Cause(
        "LifeboatDiskSpace",
        "the disk filled",
        f"{_small(1)}; {TELL}",
        f"{LARGE}; {TELL}",
    ),
    Cause(
        "LifeboatDiskFull",
        "a disk with room for a few days",
        f"{_small(4)}; {ASK}",
        f"{LARGE}; {ASK}",
    ),
    Cause(
        "LifeboatEndpointDown",
        "the site's service stopped",
        "docker compose --project-directory /srv/shop stop frontend",
        "docker compose --project-directory /srv/shop up --wait",
    ),
    Cause(
        "LifeboatCertificateEnds",
        "a certificate that ends in a week",
        f"{SITE}{ASK}",
        f"{SITE_AS_IT_WAS}; {ASK}",
        labels=_of(endpoint="frontend"),
    ),
    Cause(
        "LifeboatClockWrong",
        "the host's clock ten minutes ahead",
        f"systemctl stop cron; faketime -f +10m {TELL}",
        f"{TELL}; systemctl start cron",
    ),
)

# On a keeper's host. A pull is its user's, and what Prometheus is told is root's.
KEEPER_TELL = "lifeboat keeper metrics --stack shop"
PULL = "runuser -u keeper-shop -- lifeboat keeper pull --stack shop"
PULLED = f"{PULL} && {KEEPER_TELL}"
KEPT = "/srv/lifeboat-keeper/shop"
KEEPER_SETTINGS = "/etc/lifeboat-keeper/shop.json"
# It is as it was three days ago, before what there is now was published: what it has is put aside, and put back.
DAYS_AGO = (
    f"mv {KEPT} {KEPT}.away && install -d -m 0700 -o keeper-shop -g keeper-shop {KEPT}"
    " && runuser -u keeper-shop -- faketime '3 days ago' lifeboat keeper pull --stack shop"
)
TODAY = f"rm -r {KEPT} && mv {KEPT}.away {KEPT}"
# The largest file of the newest backup of the database that it has gets other bytes, and somebody verifies it there.
ROTTEN = (
    f"cd {KEPT}/repository/postgresql && cd $(ls | tail -n 1)"
    " && file=$(find . -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2)"
    " && dd if=/dev/urandom of=$file bs=64 count=1 seek=$(($(stat -c %s $file) / 128)) conv=notrunc;"
    " runuser -u keeper-shop -- lifeboat verify $(basename $PWD) --level checksum --stack shop"
    f" --config-directory /etc/lifeboat-keeper; {KEEPER_TELL}"
)
# It is removed there, and pulled once more.
PULLED_AGAIN = f"cd {KEPT}/repository/postgresql && rm -r $(ls | tail -n 1) && {PULLED}"
# A quota that has room for a twentieth more.
SCARCE = f"""cp --archive {KEEPER_SETTINGS} {KEEPER_SETTINGS}.away
python3 -c '
import json, pathlib
path = pathlib.Path("{KEEPER_SETTINGS}")
settings = json.loads(path.read_text())
used = sum(file.stat().st_size for file in pathlib.Path("{KEPT}").rglob("*") if file.is_file())
settings["keeper"]["quota"] = str(used * 21 // 20) + "B"
path.write_text(json.dumps(settings))'
"""

# What is made on the stack's host comes before what is made on the vault's, which is the keeper's.
KEEPER_CAUSES = (
    Cause(
        "LifeboatKeeperAbsent",
        "the keeper's node_exporter stopped",
        vault_cause="systemctl stop prometheus-node-exporter",
        vault_repair="systemctl start prometheus-node-exporter",
    ),
    Cause(
        "LifeboatKeeperMetricsOld",
        "a clock two hours behind",
        vault_cause=f"faketime '2 hours ago' {KEEPER_TELL}",
        vault_repair=KEEPER_TELL,
    ),
    Cause(
        "LifeboatKeeperPullStale",
        "a timer stopped three days ago",
        "mkdir /backup.away && mv /backup/* /backup.away/",
        "mv /backup.away/* /backup/ && rmdir /backup.away",
        f"{DAYS_AGO}; {KEEPER_TELL}",
        f"{TODAY} && {PULLED}",
    ),
    Cause(
        "LifeboatKeeperAlarm",
        "backups that somebody deleted on the stack's host",
        "mkdir /backup.away && mv /backup/postgresql/* /backup.away/",
        "mv /backup.away/* /backup/postgresql/ && rmdir /backup.away",
        f"{PULL}; {KEEPER_TELL}",
        PULLED,
        labels=_of(kind="fewer"),
    ),
    Cause(
        "LifeboatKeeperCheckFailed",
        "a backup that rotted on the keeper",
        vault_cause=ROTTEN,
        vault_repair=PULLED_AGAIN,
        labels=_of(check="checksums"),
    ),
    Cause(
        "LifeboatKeeperQuota",
        "a quota that was chosen too small",
        vault_cause=f"{SCARCE}{KEEPER_TELL}",
        vault_repair=f"mv {KEEPER_SETTINGS}.away {KEEPER_SETTINGS} && {KEEPER_TELL}",
    ),
)

# Made by another test, or not makeable on the lab. tests/unit/test_rules.py tries each rule with `promtool test rules`
# all the same.
ELSEWHERE = {
    "LifeboatWatchdog": "it always fires: test_watch.py stops Prometheus, and the dead-man's switch tells",
    "LifeboatChangesBehind": "the objects of the stack that is watched are not followed between two mirrors",
    "LifeboatWalNotOffHost": "the stack of this scenario has no lifeboat_wal; test_rules.py times it by promtool",
    "LifeboatWalCheckFailed": "the stack of this scenario has no lifeboat_wal; test_rules.py times it by promtool",
    "LifeboatKeeperBehind": "the keeper of this scenario follows no WAL; test_rules.py times it by promtool",
    "LifeboatDrillOverdue": "a drill is a playbook: test_a_drill_that_never_was",
    "LifeboatRunsFailing": "a counter over a day: the alert ends a day after the last failure",
    "LifeboatBackupGrown": "a hundred megabytes that do not compress, which the lab's disks would have to hold often",
    "LifeboatRunLong": "half an hour has to pass at least, and half of the runs of two weeks",
    "LifeboatDutyOverdue": "it is for duties that a later version adds; none has it now",
}
