#!/usr/bin/env bash
# The contract of the official postgres image, written anew: same variables, same volume, same init directory,
# same refusals. Only what Compose files in the field rely on is here.
set -Eeuo pipefail

die() { printf 'postgres entrypoint: %s\n' "$*" >&2; exit 1; }

# VAR or VAR_FILE, never both: the official image refuses both, and so a mistake there must be one here.
from_file() {
    local name=$1 default=${2:-} file="${1}_FILE"
    [[ -z ${!name:-} || -z ${!file:-} ]] || die "both $name and $file are set; set one of them"
    local value=${!name:-$default}
    [[ -z ${!file:-} ]] || value=$(<"${!file}")
    export "$name=$value"
    unset "$file"
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

prepare_directories() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA" || true
    chmod 03775 /var/run/postgresql || true
    [[ $(id -u) != 0 ]] || find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres {} +
}

initialise() {
    local args=()
    [[ -z ${POSTGRES_INITDB_ARGS:-} ]] || read -r -a args <<<"$POSTGRES_INITDB_ARGS"
    # initdb itself refuses a directory that exists and is not empty: exactly the official behaviour.
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") -D "$PGDATA" "${args[@]}"
    {
        printf '\n'
        printf 'host all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD"
    } >>"$PGDATA/pg_hba.conf"
}

# The server and psql both take PGPORT; psql must not go where PGHOST leads.
run_sql() { PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"; }

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then echo "$0: running $file"; "$file"; else echo "$0: sourcing $file"; . "$file"; fi ;;
            *.sql) echo "$0: running $file"; run_sql --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) echo "$0: running $file"; gunzip -c "$file" | run_sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) echo "$0: running $file"; zstd -dc "$file" | run_sql --dbname "$POSTGRES_DB" ;;
            *) echo "$0: ignoring $file" ;;
        esac
    done
}

first_start() {
    [[ -n $POSTGRES_PASSWORD || $POSTGRES_HOST_AUTH_METHOD == trust ]] ||
        die "Database is uninitialized and superuser password is not specified. Set POSTGRES_PASSWORD."
    initialise
    # listen_addresses='' so that no client sees a half-initialised server over the network.
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
    if ! run_sql --dbname postgres -tAc "SELECT 1 FROM pg_database WHERE datname = '${POSTGRES_DB//\'/\'\'}'" | grep -q 1; then
        run_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    run_init_files
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    echo 'PostgreSQL init process complete; ready for start up.'
}

asks_for_help() {
    local arg
    for arg; do
        case $arg in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

main() {
    [[ ${1:-} != -* ]] || set -- postgres "$@"
    if [[ ${1:-} == postgres ]] && ! asks_for_help "$@"; then
        prepare_directories
        if [[ $(id -u) == 0 ]]; then exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"; fi
        from_file POSTGRES_PASSWORD
        from_file POSTGRES_USER postgres
        from_file POSTGRES_DB "$POSTGRES_USER"
        from_file POSTGRES_INITDB_ARGS
        : "${POSTGRES_HOST_AUTH_METHOD:=scram-sha-256}"
        export POSTGRES_HOST_AUTH_METHOD PGPASSWORD="${PGPASSWORD:-$POSTGRES_PASSWORD}"
        if [[ -s $PGDATA/PG_VERSION ]]; then
            echo 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
        else
            first_start "${@:2}"
        fi
        unset PGPASSWORD
    fi
    exec "$@"
}

main "$@"
