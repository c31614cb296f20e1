# Scenario 4. Sourced by drill.sh, which says what the names mean.
playbook=recover_frontend
forge=${LAB_FORGE:-forge1}
fault="the site's files are deleted on the static host, and a commit is pushed that does not build"
look() { on curl --silent --fail --max-time 10 http://www.shop.test/version.json; }
break_it() {
    docker exec "$forge" find /srv/forge/pages/sites/acme/shop -mindepth 1 -delete
    docker exec "$forge" sh -ec '
        work=$(mktemp -d)
        git clone --quiet /srv/forge/git/acme/shop.git "$work"
        cd "$work"
        echo "export const broken = ;" >> frontend/src/items.js
        git -c user.name=Drill -c user.email=drill@localhost commit --quiet --all --message "Break the build"
        git push --quiet origin main
        rm -r "$work"'
}
broken() { ! look; }
works() { look && echo; }
