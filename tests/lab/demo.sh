#!/usr/bin/env bash
# The main job on the lab: protect, back up, prove, destroy, recover, and show the proof. Called by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

started=$SECONDS
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s==> [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$1" "$plain"; }
play() { ansible-playbook -i inventories/lab "$@"; }

step "Deploy the agent, the backups and their schedule on app1"
play lifeboat.dr.deploy

step "Take a backup"
play lifeboat.dr.backup

step "Prove it: restore it into a throw-away PostgreSQL and compare"
play lifeboat.dr.verify

step "Lose the database and get it back"
tests/lab/drill.sh database

step "Done. The lab stays up: docker exec app1 lifeboat status shows more, make lab-down removes it"
