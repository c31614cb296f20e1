#!/usr/bin/env bash
# Run the Molecule scenarios in three lanes side by side, each with hosts of its own, made once and removed at the end.
# Usage: molecule.sh [--long] [SCENARIO...]      --long: with what takes longest (what is marked `long`) too
set -euo pipefail
cd "$(dirname "$0")/.."

# A converge that deploys with its schedules comes before those that deploy without; last is what destroys the stack's host, or has a
# host of its own that watches it.
plans=(
    "a default corrupt_backup recover_site"
    "b recover_object_storage recover_backend recovery_point drill"
    "c foreign_stack recover_database recover_frontend watch"
)
rare=" corrupt_backup foreign_stack recovery_point watch drill " # without --long these run where they are named
long=
if [ "${1:-}" = --long ]; then
    long=1
    shift
fi
wanted=" $* "
for one in "$@"; do
    [[ " ${plans[*]} " == *" $one "* ]] || { echo "molecule: there is no scenario $one in ${plans[*]}" >&2; exit 2; }
done
exec 8>"${TMPDIR:-/tmp}/lifeboat-molecule.$UID.lock"
flock --nonblock 8 || { echo "molecule: the lanes' hosts belong to another run of this script" >&2; exit 2; }
work=$(mktemp -d)
touch "$work/times" "$work/failed"
began=$SECONDS

in_lane() { # LANE COMMAND...: Molecule's own state is apart for each lane, as its hosts are
    LIFEBOAT_LANE=$1 MOLECULE_EPHEMERAL_DIRECTORY="$work/state.$1" "${@:2}"
}

timed() { # LANE SCENARIO STEP COMMAND...
    local start=$SECONDS code=0
    printf '\n==> %s: %s\n' "$2" "$3"
    in_lane "$1" "${@:4}" || code=$?
    echo "$1 $2 $3 $((SECONDS - start))" >>"$work/times"
    return $code
}

scenario() { # LANE SCENARIO
    # The scenarios without a converge of their own share one deployment without schedules.
    local deployment=shared only=
    ! grep -q '^    converge:' "molecule/$2/molecule.yml" || deployment=$2
    if [ "$deployment" != "$deployed" ]; then
        timed "$1" "$2" converge molecule converge --no-command-borders --scenario-name "$2" || return
        deployed=$deployment
    fi
    [ "$2" != default ] || timed "$1" "$2" idempotence molecule idempotence --no-command-borders --scenario-name "$2" || return
    [ -n "$long" ] || only="-m 'not long'"
    PYTEST_ADDOPTS="-vv --durations=10 $only" timed "$1" "$2" verify molecule verify --no-command-borders --scenario-name "$2"
}

hosts() { # LANE: whatever an earlier run left of the lane goes first
    in_lane "$1" molecule destroy --scenario-name default &&
        timed "$1" hosts create molecule create --no-command-borders --scenario-name default # and prepare, which it includes
}

told() { # LANE NAME COMMAND...: the log of a lane is printed when a step has ended, whole, so that three lanes can be read
    local start=$SECONDS word=passed
    printf '==> lane %s: %s\n' "$1" "$2"
    "${@:3}" >"$work/log.$1" 2>&1 || word=failed
    {
        flock 9
        sed "s/^/$1 | /" "$work/log.$1"
        printf '==> lane %s: %s %s in %d s\n' "$1" "$2" "$word" $((SECONDS - start))
    } 9>"$work/lock"
    [ $word = passed ] && return
    {
        printf '\n--- lane %s: %s\n' "$1" "$2" # in short, as the end of a log is what is read
        sed 's/\x1b\[[0-9;]*m//g' "$work/log.$1" | grep -E '(FAILED|ERROR|fatal:|\bE  )' | cut -c1-160 | tail -n 12 || true
    } >>"$work/failed"
    return 1
}

lane() { # LANE SCENARIO...
    local deployed='' standing=''
    for name in "${@:2}"; do
        [ -n "$standing" ] || told "$1" hosts hosts "$1" || break
        standing=1
        # What follows a failure begins on fresh hosts, so that it fails for reasons of its own.
        told "$1" "$name" scenario "$1" "$name" || deployed='' standing=''
    done
    in_lane "$1" molecule destroy --scenario-name default >/dev/null 2>&1
}

running=() lanes=() count=0
finish() {
    local code=$?
    trap '' INT TERM
    for pid in "${running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    wait
    for name in "${lanes[@]}"; do
        in_lane "$name" molecule destroy --scenario-name default >/dev/null 2>&1 ||
            echo "molecule: the hosts could not be removed: LIFEBOAT_LANE=$name molecule destroy" >&2
    done
    rm -rf "$work"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

set -m # each lane is a process group, to be ended whole
for plan in "${plans[@]}"; do
    read -r name list <<<"$plan"
    chosen=()
    for one in $list; do
        if [[ $# -eq 0 ]]; then
            [[ -z $long && $rare == *" $one "* ]] || chosen+=("$one")
        elif [[ $wanted == *" $one "* ]]; then
            chosen+=("$one")
        fi
    done
    [ ${#chosen[@]} -gt 0 ] || continue
    count=$((count + ${#chosen[@]}))
    lanes+=("$name")
    lane "$name" "${chosen[@]}" </dev/null &
    running+=($!)
done
for pid in "${running[@]}"; do wait "$pid" || echo "lane $pid did not end" >>"$work/failed"; done
running=()

printf '\n| lane | scenario | step | s |\n|---|---|---|--:|\n'
sort --stable --key=1,1 "$work/times" | awk '{ printf "| %s | %s | %s | %s |\n", $1, $2, $3, $4 }'
cat "$work/failed"
if [ -s "$work/failed" ]; then
    printf '\nmolecule: failed after %d s\n' $((SECONDS - began)) >&2
    exit 1
fi
printf '\nmolecule: %d scenarios passed in %d s\n' "$count" $((SECONDS - began))
