# Scenario 3. Sourced by drill.sh, which says what the names mean.
playbook=recover_backend
fault="a bad deployment: the tag of the backend's image means one that crashes when it starts"
look() { sql 'select count(*) || $$ items, md5 $$ || md5(string_agg(i::text, $$|$$ order by id)) from app.items i'; }
break_it() {
    local image=lifeboat-lab/backend:1
    newest point >/dev/null # it names the image to go back to
    on docker commit --change 'CMD ["python3", "-c", "import sys; sys.exit(\"ImportError: no app\")"]' \
        shop-backend-1 "$image" >/dev/null
    on docker compose --project-directory /srv/shop up --detach --no-deps backend
    sleep 6 # long enough for the engine to have started it again and again
}
