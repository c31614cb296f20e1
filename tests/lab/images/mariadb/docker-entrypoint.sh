#!/usr/bin/env bash
# The contract of the official mariadb image, written anew: same variables, same volume, same refusals. Only what
# Compose files in the field rely on is here.
set -Eeuo pipefail

DATA=/var/lib/mysql

die() { printf 'mariadb entrypoint: %s\n' "$*" >&2; exit 1; }

# MARIADB_x, MYSQL_x or either with _FILE.
value_of() {
    local name
    for name in "MARIADB_$1" "MYSQL_$1"; do
        if [[ -n ${!name:-} ]]; then printf %s "${!name}"; return; fi
        name="${name}_FILE"
        if [[ -n ${!name:-} ]]; then printf %s "$(<"${!name}")"; return; fi
    done
}

literal() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\'\'}"; }

initialise() {
    local root database user password
    root=$(value_of ROOT_PASSWORD) database=$(value_of DATABASE) user=$(value_of USER) password=$(value_of PASSWORD)
    [[ -n $root ]] || die 'Database is uninitialized and password option is not specified. Set MARIADB_ROOT_PASSWORD.'
    mariadb-install-db --datadir="$DATA" --auth-root-authentication-method=normal --skip-test-db --rpm >/dev/null
    {
        printf 'FLUSH PRIVILEGES;\n'
        printf 'SET PASSWORD FOR root@localhost = PASSWORD(%s);\n' "$(literal "$root")"
        printf "CREATE USER root@'%%' IDENTIFIED BY %s;\n" "$(literal "$root")"
        printf "GRANT ALL ON *.* TO root@'%%' WITH GRANT OPTION;\n"
        [[ -z $database ]] || printf 'CREATE DATABASE `%s`;\n' "${database//\`/\`\`}"
        if [[ -n $user ]]; then
            printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$(literal "$user")" "$(literal "$password")"
            [[ -z $database ]] || printf "GRANT ALL ON \`%s\`.* TO %s@'%%';\n" "${database//\`/\`\`}" "$(literal "$user")"
        fi
    } | mariadbd --bootstrap --datadir="$DATA" "$@"
    echo 'MariaDB init process done. Ready for start up.'
}

main() {
    [[ ${1:-} != -* ]] || set -- mariadbd "$@"
    if [[ ${1:-} == mariadbd || ${1:-} == mysqld ]]; then
        if [[ $(id -u) == 0 ]]; then
            mkdir -p "$DATA" /run/mysqld
            find "$DATA" /run/mysqld \! -user mysql -exec chown mysql:mysql {} +
            exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
        fi
        [[ -d $DATA/mysql ]] || initialise "${@:2}"
    fi
    exec "$@"
}

main "$@"
