#!/usr/bin/env bash
# Record the demo in a terminal and draw it as docs/demo.svg: what a stranger sees before trying it. `make lab` comes first.
# Pauses are cut to a second, as nobody watches a bar move. The tool is no requirement of Lifeboat: it lives in .lab/cast.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH ANSIBLE_CONFIG=$PWD/ansible.cfg
tools=$PWD/.lab/cast
size=${SIZE:-112x34}

[ -x "$tools/bin/termtosvg" ] || tests/supply/venv.sh python3 "$tools" docs/cast.lock
# `script` gives it the terminal that it copies the settings of.
script --quiet --return --command "env TERM=xterm-256color '$tools/bin/termtosvg' record '$tools/demo.cast' --command '${1:-tests/lab/demo.sh}' --screen-geometry $size" /dev/null </dev/null
sed -i 's/\\u001b(B//g' "$tools/demo.cast" # how some terminals end bold, which the tool would print
"$tools/bin/termtosvg" render "$tools/demo.cast" docs/demo.svg --min-frame-duration 80 --max-frame-duration 1000 --loop-delay 6000 --template window_frame
ls -l docs/demo.svg
