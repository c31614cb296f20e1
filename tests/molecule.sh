#!/usr/bin/env bash
# Run every Molecule scenario on one set of hosts, made once and removed at the end. Usage: molecule.sh [SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."

scenarios=("$@")
# recover_site destroys the stack's host, and so does drill, which begins with hosts of its own.
[ $# -gt 0 ] || scenarios=(
    default corrupt_backup recover_database foreign_stack recovery_point recover_object_storage recover_backend
    recover_frontend recover_site drill
)
began=$SECONDS
trap 'molecule destroy --scenario-name default >/dev/null 2>&1 || echo "molecule: the hosts could not be removed: molecule destroy" >&2' EXIT

run() {
    [ "$1" != drill ] || molecule destroy --scenario-name default || return
    molecule converge --scenario-name "$1" || return
    [ "$1" != default ] || molecule idempotence --scenario-name "$1" || return
    # The refusals and half-way failures (test_choices.py) of these two take longer than all the rest: run them with
    # `molecule verify --scenario-name recover_database`, recover_object_storage.
    local only=
    [[ $1 != recover_database && $1 != recover_object_storage ]] || only="-k test_fault_is_recovered"
    PYTEST_ADDOPTS="-vv --durations=5 $only" molecule verify --scenario-name "$1"
}

# A scenario that fails is run once more, on fresh hosts: an engine inside a container on a small machine loses a process now
# and then (runc's init killed, a listing empty). One that passes then is told as FLAKY with what it said the first time, as it
# may be ours. What fails twice fails; so does what fails when there is no time left for a second try in CI's 90 minutes.
said=$(mktemp -d)
attempt() { # SCENARIO NUMBER
    local start=$SECONDS word=passed
    printf '\n==> molecule %s\n' "$1"
    run "$1" 2>&1 | tee "$said/$1.$2" || word=failed
    printf '==> molecule %s: %s in %d s\n' "$1" "$word" $((SECONDS - start))
    [ $word = passed ]
}
told() { # SCENARIO NUMBER: in short, as the end of a log is what is read
    printf '\n--- %s\n' "$1"
    sed 's/\x1b\[[0-9;]*m//g' "$said/$1.$2" | grep -E '(FAILED|ERROR|fatal:|\bE  )' | cut -c1-160 | tail -n 12 || true
}

failed=() flaky=() lost=()
for scenario in "${scenarios[@]}"; do
    attempt "$scenario" 1 || failed+=("$scenario")
done
for scenario in "${failed[@]}"; do
    if [ $((SECONDS - began)) -lt 3300 ] && molecule destroy --scenario-name default && attempt "$scenario" 2; then
        flaky+=("$scenario")
    else
        lost+=("$scenario")
    fi
done
for scenario in "${failed[@]}"; do told "$scenario" 1; done
for scenario in "${lost[@]}"; do [ ! -e "$said/$scenario.2" ] || told "$scenario" 2; done
[ ${#flaky[@]} -eq 0 ] || printf '\nmolecule: FLAKY, failed first and passed on fresh hosts: %s\n' "${flaky[*]}"
if [ ${#lost[@]} -gt 0 ]; then
    printf '\nmolecule: failed after %d s: %s\n' $((SECONDS - began)) "${lost[*]}" >&2
    exit 1
fi
printf '\nmolecule: %d scenarios passed in %d s\n' "${#scenarios[@]}" $((SECONDS - began))
