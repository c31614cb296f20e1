#!/usr/bin/env bash
# Break one component of the lab's stack for real, recover it with the operator's own command, show the proof.
# Usage: drill.sh SCENARIO      (database; the other scenarios come with their recoveries)
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario=${1:-database}
host=${LAB_HOST:-app1}
started=$SECONDS
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
sql() { docker exec "$host" docker exec shop-db-1 psql -XAtq -U shop -d shop -c "$1"; }
items='select count(*) || $$ items, md5 $$ || md5(string_agg(i::text, $$|$$ order by id)) from app.items i'

if [ "$scenario" != database ]; then
    echo "drill: there is no recovery for '$scenario' yet, so it cannot be rehearsed; SCENARIO=database can" >&2
    exit 2
fi
backup=$(docker exec "$host" lifeboat list --json | python3 -c '
import json, sys
good = [one["id"] for one in json.load(sys.stdin) if one["good"]]
print(good[-1] if good else sys.exit("drill: no good backup on the host; make demo takes one first"))')

step "Remember what the application holds"
before=$(sql "$items")
echo "before: $before"

fault="the database server is killed, a table file overwritten with noise and the control file emptied"
step "Break it: $fault"
table=$(sql "select pg_relation_filepath('app.items')")
docker exec "$host" docker kill shop-db-1 >/dev/null
data=$(docker exec "$host" docker volume inspect --format '{{.Mountpoint}}' shop_pgdata)
docker exec "$host" dd if=/dev/urandom "of=$data/$table" bs=8k count=4 conv=notrunc status=none
docker exec "$host" truncate --size 0 "$data/global/pg_control"
if docker exec "$host" curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8000/health; then
    echo "drill: the fault did not take, the application still says that it is healthy" >&2
    exit 1
fi
echo "the application is down"

step "Recover with the operator's own command"
ansible-playbook -i inventories/lab lifeboat.dr.recover_database -e confirm="$host" -e reason="drill"

step "Look at the application's data with our own eyes"
after=$(sql "$items")
echo "before: $before"
echo "after:  $after"
[ "$before" = "$after" ] || { echo "drill: FAIL: the data differs from what it was" >&2; exit 1; }
docker exec "$host" curl --silent --fail --max-time 10 http://127.0.0.1:8000/health
echo

step "The proof"
docker exec "$host" lifeboat list
docker exec "$host" sh -c 'cat "$(ls -t /var/lib/lifeboat/shop/evidence/*.json | head -n 1)"' |
    python3 tests/lab/proof.py "$backup" "$fault"
