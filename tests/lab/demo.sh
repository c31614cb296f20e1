#!/usr/bin/env bash
# The main job on the lab: protect, destroy for real, recover, prove, show it. Called by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/lab/progress.sh
TABLE=$(mktemp)
trap 'rm -f "$TABLE"' EXIT
export DEPLOYED=1 WRITE=2 TABLE

step "Deploy the agent, the backups and their schedule on app1"
play lifeboat.dr.deploy

step "Somebody writes; the database is lost with its files, and comes back from a base and the WAL, to the last commit received"
tests/lab/drill.sh database

step "A table is dropped while people write: the WAL names the transaction and the second, and it comes back as of the instant before"
FAULT=table_dropped tests/lab/drill.sh database

step "Prove that point: the database into a throw-away PostgreSQL, the objects into a scratch bucket, and compare"
play lifeboat.dr.verify

step "Show that the key in the safe opens it, from a machine that has nothing to do with app1"
play lifeboat.dr.escrow -e target=spare1

step "Lose the object store, its whole data directory, and bring the bucket back to one instant from vault1"
tests/lab/drill.sh object_storage

step "An attacker encrypts every upload; they come back as they were, and what he left goes aside"
FAULT=files_encrypted tests/lab/drill.sh files

step "Lose MariaDB with its volume, or Valkey: it comes back from its dump"
tests/lab/drill.sh dumps

step "Compare rows with objects and with files"
play lifeboat.dr.reconcile

step "All that was lost, and how long it took to come back"
table "$TABLE"

step "Done. The lab stays up: docker exec app1 lifeboat status shows more, make lab-down removes it; report: .lab/report/index.html"
