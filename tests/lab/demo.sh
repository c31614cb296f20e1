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

step "Deploy the agent, the backups and their schedule on $host"
play lifeboat.dr.deploy

step "Take a recovery point while somebody writes: the database, and the bucket of that instant, mirrored to vault1"
docker cp --quiet tests/lab/writer.py "$host:/root/writer.py"
on rm -f "$ledger"
docker exec --detach "$host" sh -c 'echo $$ > /run/writer.pid; exec python3 /root/writer.py "$0" --rate 10' "$ledger"
sleep 5
play lifeboat.dr.backup
sleep 3
on sh -c 'kill "$(cat /run/writer.pid)"'
taken_at=$(on lifeboat list --component point --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["taken_at"])')

step "Prove it: restore the database into a throw-away PostgreSQL, the objects into a scratch bucket, and compare"
play lifeboat.dr.verify

step "Show that the key in the safe opens it, from a machine that has nothing to do with $host"
play lifeboat.dr.escrow -e target=spare1

step "Lose the database and get it back"
tests/lab/drill.sh database written-since

step "Lose the object store, its whole data directory, and bring the bucket back to the same instant from vault1"
tests/lab/drill.sh object_storage written-since

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
