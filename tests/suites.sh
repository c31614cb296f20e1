#!/usr/bin/env bash
# Run make targets, some of them at the same time. Usage: suites.sh STAGE...      e.g. suites.sh lint,unit awx+objects,molecule
# A stage is a list of lanes with commas between them, which run side by side; a lane is a list of targets with a + between
# them, which run one after the other. A stage begins when the one before it has passed. The last lane of a stage shows its
# log as it comes; the others are printed when the stage is over, each log whole.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
touch "$work/times"
TIMEFORMAT='%R %U %S'

suite() { # FILE-DESCRIPTOR TARGET
    local word=passed real user system
    { time make --no-print-directory "$2" 2>&1 | tee "$work/$2.log" >&"$1"; } 2>"$work/$2.time" || word=failed
    read -r real user system <"$work/$2.time"
    echo "$2 $word $real $user $system" >>"$work/times"
    [ $word = passed ]
}

lane() { # FILE-DESCRIPTOR TARGET...
    local code=0
    for target in "${@:2}"; do
        printf '==> make %s\n' "$target" >&"$1"
        suite "$1" "$target" || code=1
    done
    return $code
}

running=()
finish() {
    local code=$?
    trap '' INT TERM
    for pid in "${running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

exec 3>&1 4>/dev/null
set -m # each lane is a process group, to be ended whole
failed=
for stage in "$@"; do
    if [ -n "$failed" ]; then
        printf '%s\n' ${stage//[,+]/ } | sed 's/$/ - - - -/' >>"$work/times"
        continue
    fi
    IFS=, read -ra lanes <<<"$stage"
    shown=${lanes[-1]}
    for targets in "${lanes[@]}"; do
        descriptor=4
        [ "$targets" != "$shown" ] || descriptor=3
        # shellcheck disable=SC2086
        lane $descriptor ${targets//+/ } </dev/null &
        running+=($!)
    done
    for pid in "${running[@]}"; do wait "$pid" || failed=1; done
    running=()
    for targets in "${lanes[@]::${#lanes[@]}-1}"; do
        for target in ${targets//+/ }; do
            printf '\n==> make %s\n' "$target"
            cat "$work/$target.log"
        done
    done
done

# What failed is told once more, in short, as the end of a log is what is read.
awk '$2 == "failed" { print $1 }' "$work/times" | while read -r target; do
    printf '\n--- make %s\n' "$target"
    sed 's/\x1b\[[0-9;]*m//g' "$work/$target.log" | grep -E '(FAILED|ERROR|fatal:|error:|\bE  |\*\*\*)' | cut -c1-160 | tail -n 12 || true
done
printf '\n| suite | | s | CPU s |\n|---|---|--:|--:|\n'
awk '{ printf "| %s | %s | %s | %s |\n", $1, $2 == "-" ? "not run" : $2, $2 == "-" ? "" : int($3 + 0.5), $2 == "-" ? "" : int($4 + $5 + 0.5) }' "$work/times"
[ -z "$failed" ] || exit 1
