#!/usr/bin/env bash
# Run every Molecule scenario on one set of hosts, made once and removed at the end. Usage: molecule.sh [SCENARIO...]
set -euo pipefail
cd "$(dirname "$0")/.."

scenarios=("$@")
# recover_site is last: it destroys the stack's host.
[ $# -gt 0 ] || scenarios=(default corrupt_backup recover_database foreign_stack recover_site)
began=$SECONDS
trap 'molecule destroy --scenario-name default >/dev/null 2>&1 || echo "molecule: the hosts could not be removed: molecule destroy" >&2' EXIT

# recover_object_storage, recover_backend and recovery_point are run by name until they were seen whole and green: molecule.sh NAME.
for scenario in "${scenarios[@]}"; do
    start=$SECONDS
    printf '\n==> molecule %s\n' "$scenario"
    molecule converge --scenario-name "$scenario"
    [ "$scenario" != default ] || molecule idempotence --scenario-name "$scenario"
    # The refusals and half-way failures (test_choices.py) take longer than all the rest: run them with
    # `molecule verify --scenario-name recover_database`, recover_object_storage.
    only=
    [[ $scenario != recover_* || $scenario = recover_site ]] || only="-k test_fault_is_recovered"
    PYTEST_ADDOPTS=$only molecule verify --scenario-name "$scenario"
    printf '==> molecule %s: passed in %d s\n' "$scenario" $((SECONDS - start))
done
printf '\nmolecule: %d scenarios passed in %d s\n' "${#scenarios[@]}" $((SECONDS - began))
