#!/usr/bin/env bash
# Start SeaweedFS as one S3 server.
# S3_CONFIG names a config file; without one S3_ACCESS_KEY and S3_SECRET_KEY (or *_FILE) become one.
set -euo pipefail
: "${S3_PORT:=8333}" "${S3_MASTER_PORT:=9333}" "${S3_DATA:=/data}" "${S3_CONFIG:=}"

if [[ -z $S3_CONFIG ]]; then
    [[ -z ${S3_ACCESS_KEY_FILE:-} ]] || S3_ACCESS_KEY=$(<"$S3_ACCESS_KEY_FILE")
    [[ -z ${S3_SECRET_KEY_FILE:-} ]] || S3_SECRET_KEY=$(<"$S3_SECRET_KEY_FILE")
    if [[ -z ${S3_ACCESS_KEY:-} || -z ${S3_SECRET_KEY:-} ]]; then
        echo 'objects entrypoint: no credentials: set S3_ACCESS_KEY and S3_SECRET_KEY, or S3_CONFIG' >&2
        exit 1
    fi
    S3_CONFIG=/run/s3.json
    umask 077
    export S3_ACCESS_KEY S3_SECRET_KEY
    # Read from the environment, not from the command line, where `ps` would show them.
    jq -n '{identities: [{name: "root", credentials: [{accessKey: env.S3_ACCESS_KEY, secretKey: env.S3_SECRET_KEY}],
            actions: ["Admin", "Read", "Write", "List", "Tagging"]}]}' >"$S3_CONFIG"
    unset S3_ACCESS_KEY S3_SECRET_KEY
fi
mkdir -p "$S3_DATA"

# In one process the filer waits fifteen seconds for streams that its own S3 door never closes, and only then are the volumes
# closed: `docker stop` has killed it by then, and the next start finds them torn. In two, the volumes are closed first.
# A store that is still starting may heed no TERM. So it has SECONDS to close its volumes, which takes a running one about one;
# then it is killed, and whoever restarts us can do so.
stop() { # SECONDS
    local tenths=$(($1 * 10))
    trap '' TERM INT
    kill -TERM "$store" 2>/dev/null || true # either may be the one that has ended already
    while ((tenths-- > 0)) && kill -0 "$store" 2>/dev/null; do sleep 0.1; done
    kill -KILL "$store" 2>/dev/null || true
    kill -KILL "$filer" 2>/dev/null || true # its index is a journal: it needs no goodbye
}
store='' filer=''
trap 'stop 8; exit 0' TERM INT # `docker stop` has ten seconds of patience

# -volume.max=0 and small volumes: with too few volumes writes hang instead of failing.
# A single server has nobody to wait for: ten seconds to elect itself, ten to tell others that it stops, are the defaults.
# -ip=127.0.0.1: the parts find one another there whatever address the container gets after a restart.
weed -logtostderr=true server -dir="$S3_DATA" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -master.port="$S3_MASTER_PORT" -master.telemetry=false -master.volumeSizeLimitMB=128 -volume.max=0 \
    -master.electionTimeout=1s -volume.preStopSeconds=1 &
store=$!
# A filer that meets a closed door asks again after seven seconds only. The master's is the first of the store's to open.
for _ in {1..200}; do
    (: </dev/tcp/127.0.0.1/$((S3_MASTER_PORT + 10000))) 2>/dev/null && break
    kill -0 "$store" 2>/dev/null || break
    sleep 0.1
done
weed -logtostderr=true filer -master="127.0.0.1:$S3_MASTER_PORT" -ip=127.0.0.1 -ip.bind=0.0.0.0 -defaultStoreDir="$S3_DATA" \
    -s3 -s3.port="$S3_PORT" -s3.config="$S3_CONFIG" -s3.port.iceberg=0 -s3.port.lance=0 &
filer=$!
# Neither is of use without the other.
ended=0
wait -n "$store" "$filer" || ended=$?
stop 3
exit "$ended"
