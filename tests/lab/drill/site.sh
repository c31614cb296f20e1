# Scenario 5. Sourced by drill.sh, which says what the names mean.
# The machine and its disk are gone. An empty one becomes the site, from the vault and the escrowed key alone.
playbook=recover_site component=point target=${LAB_SPARE:-spare1}
arguments=(-e "target=$target")
fault="the machine is destroyed, and with it its disk: the stack's volumes, its files and the local repository"

if there test -e /var/lib/lifeboat; then
    step "Replace the spare, which an earlier drill has used, by an empty machine"
    docker rm --force --volumes "$target" >/dev/null
    ansible-playbook molecule/shared/create.yml
fi

step "Deploy, let somebody write through the application, take a recovery point"
ansible-playbook -i inventories/lab lifeboat.dr.deploy
docker cp --quiet tests/lab/writer.py "$host:/root/writer.py"
on rm -f /root/ledger.jsonl
on python3 /root/writer.py /root/ledger.jsonl --rate 10 --seconds 8
ansible-playbook -i inventories/lab lifeboat.dr.backup
ledger=$(mktemp)
on cat /root/ledger.jsonl > "$ledger"
alive=$host

look() {
    docker exec "$alive" docker exec shop-db-1 psql -XAtq -U shop -d shop -c "
        select count(*) || ' items, md5 ' || md5(string_agg(i::text, '|' order by id)) from app.items i
        union all select 'passwords, md5 ' || md5(string_agg(rolname || rolpassword, '|' order by rolname))
            from pg_authid where rolcanlogin and not rolsuper"
    docker exec --interactive "$alive" python3 - < tests/lab/bucket.py
}
break_it() {
    docker stop --time 20 "$host" >/dev/null
    docker rm --force --volumes "$host" >/dev/null
    docker volume rm "lifeboat-lab-$host-docker" >/dev/null
    alive=$target
}
broken() { ! docker inspect "$host" >/dev/null 2>&1; }
works() {
    there curl --silent --fail --max-time 10 http://127.0.0.1:8000/health && echo
    docker cp --quiet tests/lab/writer.py "$target:/root/writer.py"
    docker exec --interactive "$target" sh -c 'cat > /root/ledger.jsonl' < "$ledger"
    there python3 /root/writer.py --compare /root/ledger.jsonl | python3 -c '
import json, sys
found = json.load(sys.stdin)
print("acknowledged before the recovery point: {acknowledged}, there: {present}, lost: {lost}".format(**found))
sys.exit("drill: FAIL: an acknowledged write is lost" if found["lost"] or found["rows_without_bytes"] else 0)'
    echo "make lab brings $host back"
}
