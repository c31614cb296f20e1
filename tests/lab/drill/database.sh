# Scenario 1. Sourced by drill.sh, which says what the names mean.
component=database playbook=recover_database
fault="the database server is killed, a table file overwritten with noise and the control file emptied"
look() { sql 'select count(*) || $$ items, md5 $$ || md5(string_agg(i::text, $$|$$ order by id)) from app.items i'; }
break_it() {
    local table data
    table=$(sql "select pg_relation_filepath('app.items')")
    on docker kill shop-db-1 >/dev/null
    data=$(volume shop_pgdata)
    on dd if=/dev/urandom "of=$data/$table" bs=8k count=4 conv=notrunc status=none
    on truncate --size 0 "$data/global/pg_control"
}
