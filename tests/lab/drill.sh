#!/usr/bin/env bash
# Break one component of the lab's stack for real, recover it with the operator's own command, show the proof.
# Usage: drill.sh SCENARIO [written-since]
# SCENARIO: a file of tests/lab/drill. written-since: the application wrote after the backup, so what it holds cannot be
# the same again; what was written before it is for the caller to compare.
#
# A file of tests/lab/drill says what is particular to its scenario:
#   playbook   the recovery: lifeboat.dr.$playbook, with the words of the array `arguments` where there are any
#   fault      what is broken, in words
#   component  whose newest good backup must have been used; empty where a recovery needs none
#   look       prints what must be the same before and after
#   break_it   breaks it
#   broken     fails unless the fault took (left out: the application must have stopped to say that it is healthy)
#   works      fails unless it serves again (left out: the application says that it is healthy)
# It may use $host, set $target (the host to recover, where that is another), and call on and there (docker exec in the
# one and the other), sql, volume and healthy.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario=${1:-database} since=${2:-}
host=${LAB_HOST:-app1} target=
started=$SECONDS
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
on() { docker exec "$host" "$@"; }
there() { docker exec "${target:-$host}" "$@"; }
sql() { on docker exec shop-db-1 psql -XAtq -U shop -d shop -c "$1"; }
volume() { on docker volume inspect --format '{{.Mountpoint}}' "$1"; }
healthy() { on curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8000/health; }

playbook='' fault='' component='' arguments=()
broken() { ! healthy; }
works() { there curl --silent --fail --max-time 10 http://127.0.0.1:8000/health && echo; }

if [ ! -f "tests/lab/drill/$scenario.sh" ]; then
    known=$(basename -a -s .sh tests/lab/drill/*.sh | paste -sd ' ')
    echo "drill: there is no scenario '$scenario' to rehearse; there are: $known" >&2
    exit 2
fi
# shellcheck source=/dev/null
. "tests/lab/drill/$scenario.sh"

newest() {
    on lifeboat list --component "$1" --json | python3 -c '
import json, sys
good = [one["id"] for one in json.load(sys.stdin) if one["good"]]
print(good[-1] if good else sys.exit("drill: no good backup on the host; make demo takes one first"))'
}
recover() {
    ansible-playbook -i inventories/lab "lifeboat.dr.$playbook" -e confirm="${target:-$host}" -e reason=drill \
        "${arguments[@]}"
}

backup=
[ -z "$component" ] || backup=$(newest "$component")

step "Remember what the application holds"
before=$(look)
echo "before: $before"

step "Break it: $fault"
break_it
if ! broken; then
    echo "drill: the fault did not take" >&2
    exit 1
fi
echo "it is broken"

step "Recover with the operator's own command"
recover

step "Look at the application's data with our own eyes"
after=$(look)
echo "before: $before"
echo "after:  $after"
[ -n "$since" ] || [ "$before" = "$after" ] || { echo "drill: FAIL: the data differs from what it was" >&2; exit 1; }
works

step "A second time: nothing to do"
again=$(recover) || { echo "$again"; exit 1; }
grep -E 'changed=' <<<"$again"
! grep -qE 'changed=[1-9]' <<<"$again" || { echo "$again"; echo "drill: FAIL: the second recovery changed something" >&2; exit 1; }

step "The proof"
there lifeboat list
there sh -c 'cat "$(ls -t /var/lib/lifeboat/shop/evidence/*.json | head -n 1)"' | python3 tests/lab/proof.py "$backup" "$fault"
