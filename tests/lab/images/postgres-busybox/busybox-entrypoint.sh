#!/bin/sh
# The contract of ../postgres/docker-entrypoint.sh in BusyBox's shell: the variables, the volume, no init directory.
set -eu

from_file() { # VAR: its value, or that of the file that VAR_FILE names
    eval "file=\${${1}_FILE:-}"
    [ -z "$file" ] || export "$1=$(cat "$file")"
}

[ "${1:-}" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    chmod 03775 /var/run/postgresql
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres {} +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
from_file POSTGRES_PASSWORD
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE}" "${POSTGRES_USER:=postgres}"
    : "${POSTGRES_DB:=$POSTGRES_USER}"
    file=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$file"
    initdb --username="$POSTGRES_USER" --pwfile="$file" -D "$PGDATA"
    rm "$file"
    printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    export PGUSER="$POSTGRES_USER"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    [ "$POSTGRES_DB" = postgres ] || psql -qd postgres -v db="$POSTGRES_DB" <<'SQL'
CREATE DATABASE :"db";
SQL
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGUSER
fi
exec "$@"
