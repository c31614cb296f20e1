#!/usr/bin/env bash
# Make the virtual environment and the link that lets this checkout be used as the collection lifeboat.dr.
# Usage: setup.sh PYTHON VENV [LOCK]
set -euo pipefail
python=${1:-python3} venv=${2:-.venv} lock=${3:-requirements.lock}
cd "$(dirname "$0")/../.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $python is $("$python" -V 2>&1); Lifeboat's controller needs Python 3.11 or newer (make setup PYTHON=python3.12)" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
        echo "setup: $python has no ensurepip; install the python3-venv package and run make again" >&2
        exit 1
    }
    say "installing python3-venv"
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-venv >/dev/null
fi
say "installing the locked tools into $venv (a minute the first time)"
tests/supply/venv.sh "$python" "$venv" "$lock"
# FQCN playbooks, Molecule and pytest all find the collection through this one link.
mkdir -p .ansible/collections/ansible_collections/lifeboat
ln -sfn ../../../.. .ansible/collections/ansible_collections/lifeboat/dr
