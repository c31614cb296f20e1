#!/usr/bin/env bash
# Whether the collection works elsewhere: as it is built, and under the oldest and the newest ansible-core. Whatever says
# DEPRECATION fails. All that is needed is installed into .cache/compat, from locks; .venv is not touched.
# Usage: [COMPAT_CORES="oldest between newest"] [COMPAT_PYTHON=python3.13] compat.sh [built|unit|answers|recovery...]
#   COMPAT_CORES: of built and unit, others than usual. COMPAT_PYTHON: the one to take, where the core supports it.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD place=$PWD/.cache/compat
collection=$place/collections/ansible_collections/lifeboat/dr
export ANSIBLE_CONFIG=$root/ansible.cfg ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false
mkdir -p "$place"
export ANSIBLE_DEPRECATION_WARNINGS=true ANSIBLE_LOG_PATH=$place/ansible.log # of every process, those of tests too

say() { printf '\n\033[1m==> compat: %s\033[0m\n' "$*"; }
give_up() { echo "compat: $*" >&2; exit 1; }

python_for() { # CORE: an interpreter that runs (a shim of pyenv may not), has venv, and that the core supports
    local name known="/usr/bin/python3 python3.14 python3.13 python3.12 python3" supported="(3, 12) <= found <= (3, 14)"
    [ "$1" != oldest ] || known="python3.11 python3.12 python3.13 python3" supported="(3, 11) <= found <= (3, 13)"
    known=${COMPAT_PYTHON:-$known}
    for name in $known; do
        if "$name" -c "import ensurepip, sys; found = sys.version_info[:2]; sys.exit(not $supported)" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    give_up "the $1 ansible-core needs a Python with venv that is $supported; none of $known is"
}

environment() { # CORE: a virtual environment with that core, and the project's other tools
    local python wanted=$place/$1.lock
    python=$(python_for "$1")
    {
        echo "# $("$python" -VV)"
        cat "tests/compat/$1.lock"
    } >"$wanted.new"
    if ! cmp -s "$wanted.new" "$wanted"; then
        say "the environment with the $1 core"
        rm -rf "${place:?}/$1" "$wanted"
        tests/lab/setup.sh "$python" "$place/$1" "$wanted.new"
        mv "$wanted.new" "$wanted"
    fi
    export PATH=$place/$1/bin:$PATH
}

heard() { # WHAT COMMAND...: run it, and fail when any process of Ansible spoke of a deprecation
    rm -f "$ANSIBLE_LOG_PATH"
    "${@:2}"
    ! grep --no-messages 'DEPRECATION' "$ANSIBLE_LOG_PATH" || give_up "$1: see the deprecations above"
}

built() ( # CORE; ansible-test sanity, antsibull-docs and galaxy-importer on what a user would install
    environment "$1"
    rm -rf "$place/dist" "$place/collections"
    mkdir -p "$collection" "$place/.ansible/test/cache"
    ansible-galaxy collection build --output-path "$place/dist" "$root"
    tar -xzf "$place"/dist/*.tar.gz -C "$collection"
    cd "$collection"

    say "ansible-test sanity"
    # It looks at what git tracks; without a repository of its own that is nothing, as this folder is ignored by the one around.
    git init --quiet && git add --all
    # Its environments come without pip, which it would fetch from a site of its own; ensurepip has it too.
    cp "$root"/tests/compat/get_pip_*.py "$place/.ansible/test/cache/"
    HOME=$place ansible-test sanity --requirements --color no --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

    say "antsibull-docs"
    antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .

    say "galaxy-importer"
    cd "$place" # it leaves a file where it runs
    addressed dist/*.tar.gz importer
    python -m galaxy_importer.main importer/*.tar.gz 2>&1 | tee importer.log
    # It warns of the ignore file itself and of most of its lines; tests/sanity gives each line's reason.
    ! grep -E '^(WARNING|ERROR)' importer.log | grep -v 'ignore-2[.][0-9]*[.]txt' || give_up "galaxy-importer: see the warnings above"
)

# Galaxy requires the address of a repository, and the collection has none before it is published: one that leads nowhere,
# for the importer alone.
addressed() { # ARCHIVE FOLDER
    rm -rf "$2" && mkdir -p "$2/files"
    tar -xzf "$1" -C "$2/files"
    python - "$2/files/MANIFEST.json" <<'EOF'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
manifest = json.loads(path.read_text(encoding="utf-8"))
manifest["collection_info"]["repository"] = manifest["collection_info"]["repository"] or "https://repository.invalid/"
path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
EOF
    tar -czf "$2/$(basename "$1")" -C "$2/files" .
}

with_awx() { # CORE: the bundles of newer ones have no awx.awx: the one of the oldest must work under them too
    local bundle
    bundle=$(echo "$place"/oldest/lib/python*/site-packages)
    if ! [ -d "$bundle" ]; then # that core was not asked for: its bundle alone
        bundle=$place/bundle
        sed -n '/^ansible==/,/[^\\]$/p' tests/compat/oldest.lock >"$place/bundle.lock"
        [ -d "$bundle" ] || pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
            --target "$bundle" --requirement "$place/bundle.lock"
    fi
    cp -r "$bundle/ansible_collections/awx" "$place/$1"/lib/python*/site-packages/ansible_collections/
}

unit() ( # CORE; what is slow and has nothing to do with Ansible is in make unit only
    environment "$1"
    [ "$1" = oldest ] || with_awx "$1"
    say "unit tests under $(ansible --version | sed -n 1p), Python $(python -c 'import platform; print(platform.python_version())')"
    heard "unit tests" pytest -n auto --dist loadgroup -m 'ansible or not slow' tests/unit
)

answers() ( # what an operator answers, under the core between the two; their unit tests have it
    environment between
    say "answers under $(ansible --version | sed -n 1p)"
    heard answers pytest -n auto --dist loadgroup tests/unit/test_answers.py
)

recovery() ( # CORE: deploy, break the database, recover it, on hosts that stay for the next core
    environment "$1"
    say "a recovery under $(ansible --version | sed -n 1p)"
    export LIFEBOAT_LANE=compat MOLECULE_EPHEMERAL_DIRECTORY=$place/molecule
    heard recovery converge_and_recover
)

converge_and_recover() {
    molecule converge --no-command-borders --scenario-name recover_database
    PYTEST_ADDOPTS="-vv -k 'test_fault_is_recovered and tables-dropped'" \
        molecule verify --no-command-borders --scenario-name recover_database
}

destroy() (
    environment newest
    LIFEBOAT_LANE=compat MOLECULE_EPHEMERAL_DIRECTORY=$place/molecule molecule destroy --scenario-name default >/dev/null 2>&1 ||
        echo "compat: the hosts could not be removed: LIFEBOAT_LANE=compat molecule destroy" >&2
)

[ $# -gt 0 ] || set -- built unit answers recovery
for part in "$@"; do
    began=$SECONDS
    case $part in
        built) for core in ${COMPAT_CORES:-newest}; do built "$core"; done ;;
        unit) for core in ${COMPAT_CORES:-oldest newest}; do unit "$core"; done ;;
        answers) answers ;;
        recovery)
            trap destroy EXIT
            recovery oldest
            recovery newest
            ;;
        *) give_up "there is no part $part" ;;
    esac
    say "$part passed in $((SECONDS - began)) s"
done
say "all passed in $SECONDS s"
