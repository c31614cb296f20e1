#!/usr/bin/env bash
# Make or update a virtual environment from a lock (tests/supply/locks.py): only what is in it, and only files whose hash it
# has. Wheels only, as a source distribution runs code of its own when it is built.
# Usage: venv.sh PYTHON VENV LOCK
set -euo pipefail
python=$1 venv=$2 lock=$3
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$lock"
