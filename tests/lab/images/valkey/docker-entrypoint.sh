#!/bin/sh
# The contract of the official valkey image, written anew: same volume, same account, options alone are the server's.
set -e
case ${1:-} in -* | *.conf) set -- valkey-server "$@" ;; esac
if [ "$1" = valkey-server ] && [ "$(id -u)" = 0 ]; then
    find /data \! -user valkey -exec chown valkey:valkey {} +
    exec setpriv --reuid=valkey --regid=valkey --init-groups "$0" "$@"
fi
exec "$@"
