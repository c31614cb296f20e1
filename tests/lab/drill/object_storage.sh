# Scenario 2. Sourced by drill.sh, which says what the names mean.
component=objects playbook=recover_object_storage
fault="the object store is killed and its data directory emptied, with a file where its index was"
look() { docker exec --interactive "$host" python3 - < tests/lab/bucket.py; }
break_it() {
    local data
    on docker kill shop-objects-1 >/dev/null
    data=$(volume shop_objectdata)
    on find "$data" -mindepth 1 -delete
    on sh -c 'echo gone > "$0"' "$data/filerldb2"
}
