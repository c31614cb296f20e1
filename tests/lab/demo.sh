#!/usr/bin/env bash
# The main job on the lab: protect, destroy for real, recover, prove, show it. Called by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/lab/progress.sh
export DEPLOYED=1 WRITE=2

step "Deploy the agent, the backups and their schedule on app1"
play lifeboat.dr.deploy

step "Somebody writes; a recovery point is taken; the database is lost, and comes back from the point"
tests/lab/drill.sh database

step "Prove that point: the database into a throw-away PostgreSQL, the objects into a scratch bucket, and compare"
play lifeboat.dr.verify

step "Show that the key in the safe opens it, from a machine that has nothing to do with app1"
play lifeboat.dr.escrow -e target=spare1

step "Lose the object store, its whole data directory, and bring the bucket back to one instant from vault1"
tests/lab/drill.sh object_storage

step "Compare rows with objects"
play lifeboat.dr.reconcile

step "Done. The lab stays up: docker exec app1 lifeboat status shows more, make lab-down removes it; report: .lab/report/index.html"
