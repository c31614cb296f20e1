#!/usr/bin/env bash
# The main job on the lab: protect, back up, prove, destroy, recover, and show the proof. Called by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

host=${LAB_HOST:-app1}
started=$SECONDS
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
play() { ansible-playbook -i inventories/lab "$@"; }
on() { docker exec "$host" "$@"; }
ledger=/root/ledger.jsonl

step "Deploy the agent, the backups and their schedule on app1"
play lifeboat.dr.deploy

step "Take a recovery point: the database, and the bucket as it was at that instant, mirrored to vault1"
play lifeboat.dr.backup

step "Prove it: restore it into a throw-away PostgreSQL and compare"
play lifeboat.dr.verify

step "Lose the database and get it back"
tests/lab/drill.sh database

step "Let somebody write all the time, and take a recovery point meanwhile"
docker cp --quiet tests/lab/writer.py "$host:/root/writer.py"
on rm -f "$ledger"
docker exec --detach "$host" sh -c 'echo $$ > /run/writer.pid; exec python3 /root/writer.py "$0" --rate 10' "$ledger"
sleep 10
play lifeboat.dr.backup
sleep 5
read -r point taken_at < <(on lifeboat list --component point --json |
    python3 -c 'import json, sys; one = json.load(sys.stdin)[-1]; print(one["id"], one["taken_at"])')

step "Lose the object store: its whole data directory, while they write"
data=$(on docker volume inspect --format '{{.Mountpoint}}' shop_objectdata)
on docker kill shop-objects-1 >/dev/null
on find "$data" -mindepth 1 -delete
on sh -c 'echo gone > "$0"' "$data/filerldb2"
on sh -c 'kill "$(cat /run/writer.pid)"'

step "Bring the bucket back from vault1, and the rows to the same instant: recovery point $point"
play lifeboat.dr.recover_object_storage -e confirm="$host" -e recovery_point="$point" -e reason="demo"
play lifeboat.dr.recover_database -e confirm="$host" -e recovery_point="$point" -e reason="demo"

step "A second time: nothing to do"
play lifeboat.dr.recover_object_storage -e confirm="$host" -e recovery_point="$point"

step "Hold rows against objects, and the writer's ledger against both"
play lifeboat.dr.reconcile
on python3 /root/writer.py --compare "$ledger" --before "$taken_at" | python3 -c '
import json, sys
found = json.load(sys.stdin)
early = found["before"]
print("acknowledged before the recovery point: {acknowledged}, there: {present}, lost: {lost}".format(**early))
print("rows without bytes:", found["rows_without_bytes"])
sys.exit("demo: FAIL: a write of before the recovery point is lost" if early["lost"] or found["rows_without_bytes"] else 0)'

step "Done. The lab stays up: docker exec app1 lifeboat status shows more, make lab-down removes it"
