# shellcheck shell=bash
# Sourced by demo.sh and drill.sh: one line a step on the screen, and all that Ansible says in a log.
log=${LIFEBOAT_LAB_LOG:-}
if [ -z "$log" ]; then
    mkdir -p .lab/log
    log=$PWD/.lab/log/$(basename "$0" .sh)-$(date +%Y%m%d-%H%M%S).log
    (umask 077 && : >"$log")
    echo "log: $log"
fi
export LIFEBOAT_LAB_LOG=$log LIFEBOAT_LAB_BEGAN=${LIFEBOAT_LAB_BEGAN:-$(date +%s)} # drill.sh goes on with those of demo.sh
# A script reads JSON results: they are never folded at the end of a line.
export ANSIBLE_STDOUT_CALLBACK=ansible.builtin.default ANSIBLE_CALLBACK_RESULT_FORMAT=json ANSIBLE_FORCE_COLOR=0
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
began=$LIFEBOAT_LAB_BEGAN from=0

step() { # WORDS
    printf '%s==> [%3d s] %s%s\n' "$bold" $(($(date +%s) - began)) "$1" "$plain"
    printf '\n==> %s\n' "$1" >>"$log"
}

failed() { # WHY
    printf -- '--- the last lines of %s\n' "$log" >&2
    tail -n "${LIFEBOAT_LAB_TAIL:-20}" "$log" | cut -c1-400 >&2
    printf '%s: FAIL: %s. All of it: %s\n' "$(basename "$0" .sh)" "$1" "$log" >&2
    exit 1
}

logged() { # COMMAND...
    local code=0
    from=$(wc -c <"$log")
    "$@" >>"$log" 2>&1 </dev/null || code=$?
    [ "$code" = 0 ] || failed "$1 ${*: -1} exited $code"
}

told() { tail -c "+$((from + 1))" "$log"; } # what the last command said

play() { logged ansible-playbook -i inventories/lab "$@"; }

table() { # FILE: the rows of several drills under one head, each column as wide as it must be
    awk '{
        sub(/^ +/, "")
        count = split($0, cells, /  +/)
        if (cells[1] == "SCENARIO" && heads++) next
        rows++
        if (count > most) most = count
        for (i = 1; i <= count; i++) {
            cell[rows, i] = cells[i]
            if (length(cells[i]) > width[i]) width[i] = length(cells[i])
        }
    }
    END {
        for (row = 1; row <= rows; row++) {
            text = "   "
            for (i = 1; i <= most; i++) text = text sprintf(" %-" (width[i] + 1) "s", cell[row, i])
            sub(/ +$/, "", text)
            print text
        }
    }' "$1"
}
