#!/usr/bin/env bash
# Hold a drill on the lab, then recover once more, which must change nothing. Usage: drill.sh [SCENARIO]
# SCENARIO: database (default), object_storage, files, dumps, backend, frontend, site, or all.
# WRITE: seconds that the writer continues after the recovery point. FAULT, SEED: which of the scenario's faults (docs/drills.md). DEPLOYED=1: the lab is deployed already.
# TABLE: a file to which the drill's row of the table is added.
# VAULT=pull: vault1 is a keeper, and the site is recovered from what it pulled.
# SABOTAGE=1: take the step out of the recovery that brings the data back. The drill must turn red, or it proves nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

scenario=${1:-database}
host=app1 spare=spare1
. tests/lab/progress.sh

pull=()
case ${VAULT:-push} in
push) ;;
pull) pull=(-e @tests/lab/pull.yml) ;;
*)
    echo "drill: VAULT is push or pull, not '$VAULT'" >&2
    exit 2
    ;;
esac
if [ ${#pull[@]} -gt 0 ] && [ "$scenario" != site ]; then
    echo "drill: VAULT=pull is for the scenario site" >&2 # the others recover on app1, which has no key to what the keeper has
    exit 2
fi
play() { logged ansible-playbook -i inventories/lab "${pull[@]}" "$@"; }

case $scenario in
database | object_storage | files | dumps | backend | frontend) scenarios=("$scenario") ;;
site) scenarios=(site) ;;
all) scenarios=(database object_storage files dumps backend frontend site) ;;
*)
    echo "drill: there is no scenario '$scenario' to rehearse; there are: database object_storage files dumps backend frontend site all" >&2
    exit 2
    ;;
esac

tests/lab/standing.sh forget
if [[ $scenario == site || $scenario == all ]] && docker exec "$spare" test -e /var/lib/lifeboat; then
    step "Replace the spare, which an earlier drill has used, by an empty machine"
    docker rm --force --volumes "$spare" >/dev/null
    logged ansible-playbook molecule/shared/create.yml
fi

if [ -z "${DEPLOYED:-}" ]; then
    step "Deploy"
    play lifeboat.dr.deploy
fi

if [ ${#pull[@]} -gt 0 ]; then
    step "Let vault1 pull, and $spare read it for six hours"
    play lifeboat.dr.keeper -e vault_keeper_enabled=false
    play lifeboat.dr.backup
    logged docker exec --user keeper-shop vault1 lifeboat keeper pull --stack shop
    play lifeboat.dr.readback -e target="$spare" -e confirm=vault1 -e expires="$(date -u -d '+6 hours' +%FT%TZ)"
fi

words=(-e "scenario=$scenario" -e "confirm=$host,$spare" -e "report_directory=$PWD/.lab/report")
[ -z "${FAULT:-}" ] || words+=(-e "fault=$FAULT")
[ -z "${WRITE:-}" ] || words+=(-e "write_seconds=$WRITE")
[ -z "${SEED:-}" ] || words+=(-e "seed=$SEED")
if [ -n "${SABOTAGE:-}" ]; then
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    python tests/lab/sabotage.py "$copy" "${scenarios[@]}"
    export ANSIBLE_COLLECTIONS_PATH=$copy:$HOME/.ansible/collections:/usr/share/ansible/collections
fi

step "Drill: $scenario"
play lifeboat.dr.drill "${words[@]}"
told | sed -nE 's/^ *"msg": "((DROP|TRUNCATE) .* by transaction .*)"$/    \1/p' # as `lifeboat when` says it
shown=$(told | sed -nE 's/^ *"((SCENARIO|database|object_storage|files|dumps|backend|frontend|site)  .*|report: .*)",?$/    \1/p')
printf '%s\n' "$shown"
[ -z "${TABLE:-}" ] || sed '/^    report: /d' <<<"$shown" >>"$TABLE"

# What the writer wrote before the point is in its backup, and the drill has removed it: it would come back.
case $scenario in
files)
    step "Back up what there is now"
    play lifeboat.dr.backup
    ;;
site | all)
    step "Back up what there is now"
    docker exec "$spare" lifeboat backup --stack shop >>"$log"
    ;;
esac

for one in "${scenarios[@]}"; do
    [[ $scenario != all || $one == site ]] || continue # the machine of the others is gone by now
    step "Recover the $one once more: nothing to do"
    target=$host
    [ "$one" != site ] || target=$spare
    play "lifeboat.dr.recover_$one" -e target="$target" -e confirm="$target" -e reason=again
    if grep -qE 'changed=[1-9]' <<<"$(told)"; then
        failed "the second recovery changed something"
    fi
done
if [[ $scenario == site || $scenario == all ]]; then
    echo "make lab brings $host back"
else
    tests/lab/standing.sh note
fi
