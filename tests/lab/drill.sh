#!/usr/bin/env bash
# Break one component of the lab's stack for real, recover it with the operator's own command, show the proof.
# Usage: drill.sh SCENARIO [written-since]
# SCENARIO: database, object_storage; the other scenarios come with their recoveries. written-since: the application wrote
# after the backup, so what it holds cannot be the same again; what was written before it is for the caller to compare.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario=${1:-database} since=${2:-}
host=${LAB_HOST:-app1}
started=$SECONDS
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
sql() { docker exec "$host" docker exec shop-db-1 psql -XAtq -U shop -d shop -c "$1"; }
volume() { docker exec "$host" docker volume inspect --format '{{.Mountpoint}}' "$1"; }
healthy() { docker exec "$host" curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8000/health; }

case $scenario in
database)
    component=database playbook=recover_database
    fault="the database server is killed, a table file overwritten with noise and the control file emptied"
    look() { sql 'select count(*) || $$ items, md5 $$ || md5(string_agg(i::text, $$|$$ order by id)) from app.items i'; }
    break_it() {
        local table data
        table=$(sql "select pg_relation_filepath('app.items')")
        docker exec "$host" docker kill shop-db-1 >/dev/null
        data=$(volume shop_pgdata)
        docker exec "$host" dd if=/dev/urandom "of=$data/$table" bs=8k count=4 conv=notrunc status=none
        docker exec "$host" truncate --size 0 "$data/global/pg_control"
    }
    ;;
object_storage)
    component=objects playbook=recover_object_storage
    fault="the object store is killed and its data directory emptied, with a file where its index was"
    look() { docker exec --interactive "$host" python3 - < tests/lab/bucket.py; }
    break_it() {
        local data
        docker exec "$host" docker kill shop-objects-1 >/dev/null
        data=$(volume shop_objectdata)
        docker exec "$host" find "$data" -mindepth 1 -delete
        docker exec "$host" sh -c 'echo gone > "$0"' "$data/filerldb2"
    }
    ;;
*)
    echo "drill: there is no recovery for '$scenario' yet, so it cannot be rehearsed; SCENARIO=database and" \
        "SCENARIO=object_storage can" >&2
    exit 2
    ;;
esac

backup=$(docker exec "$host" lifeboat list --component "$component" --json | python3 -c '
import json, sys
good = [one["id"] for one in json.load(sys.stdin) if one["good"]]
print(good[-1] if good else sys.exit("drill: no good backup on the host; make demo takes one first"))')

step "Remember what the application holds"
before=$(look)
echo "before: $before"

step "Break it: $fault"
break_it
if healthy; then
    echo "drill: the fault did not take, the application still says that it is healthy" >&2
    exit 1
fi
echo "the application is down"

step "Recover with the operator's own command"
ansible-playbook -i inventories/lab "lifeboat.dr.$playbook" -e confirm="$host" -e reason="drill"

step "Look at the application's data with our own eyes"
after=$(look)
echo "before: $before"
echo "after:  $after"
[ -n "$since" ] || [ "$before" = "$after" ] || { echo "drill: FAIL: the data differs from what it was" >&2; exit 1; }
docker exec "$host" curl --silent --fail --max-time 10 http://127.0.0.1:8000/health
echo

step "The proof"
docker exec "$host" lifeboat list
docker exec "$host" sh -c 'cat "$(ls -t /var/lib/lifeboat/shop/evidence/*.json | head -n 1)"' |
    python3 tests/lab/proof.py "$backup" "$fault"
