#!/usr/bin/env bash
# The main job on the lab: protect, back up, destroy, recover, and show the proof. Called by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

started=$SECONDS
host=app1
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
play() { ANSIBLE_CALLBACK_RESULT_FORMAT=yaml ansible-playbook -i inventories/lab "$@"; }
sql() { docker exec "$host" docker exec shop-db-1 psql -XAtq -U shop -d shop -c "$1"; }
digest='select count(*) || $$ items, md5 $$ || md5(string_agg(i::text, $$|$$ order by id)) from app.items i'

step "Deploy the agent, the backups and their schedule on $host"
play lifeboat.dr.deploy

step "Take a backup"
play lifeboat.dr.backup
backup=$(docker exec "$host" lifeboat list --json | python -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])')

step "Prove the backup: restore it into a throw-away PostgreSQL and compare"
play lifeboat.dr.verify

step "Remember what the application holds"
before=$(sql "$digest")
echo "before: $before"

fault="the database server is killed and its control file and a table file are destroyed"
step "Destroy: $fault"
table=$(sql "select pg_relation_filepath('app.items')")
docker exec "$host" docker kill shop-db-1 >/dev/null
docker exec "$host" sh -c "
    data=\$(docker volume inspect --format '{{.Mountpoint}}' shop_pgdata)
    dd if=/dev/urandom of=\$data/$table bs=8k count=4 conv=notrunc status=none
    : > \$data/global/pg_control"
if docker exec "$host" curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8000/health; then
    echo "demo: the fault did not take, the application still says it is healthy" >&2
    exit 1
fi
echo "the application is down"

step "Recover with the operator's own command"
play lifeboat.dr.recover_database -e confirm="$host" -e reason="make demo"

step "Look at the application's data with our own eyes"
after=$(sql "$digest")
echo "before: $before"
echo "after:  $after"
[ "$before" = "$after" ] || { echo "demo: FAIL: the data differs" >&2; exit 1; }
docker exec "$host" curl --silent --fail http://127.0.0.1:8000/health
echo

step "The proof"
docker exec "$host" lifeboat list
docker exec "$host" sh -c 'cat $(ls -t /var/lib/lifeboat/shop/evidence/*.json | head -1)' | python tests/lab/proof.py "$backup" "$fault"
step "Done. The lab stays up: make lab-down removes it, docker exec $host lifeboat status shows the rest"
