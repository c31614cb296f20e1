#!/usr/bin/env python3
"""The scenarios' own set of hosts, apart from that of `make lab`. What a stack needs to be protected is the same.

Two sets may stand at the same time: LIFEBOAT_LANE names the set, and its hosts' names begin with it. tests/molecule.sh
runs three lanes; by hand it is `test`. Where LIFEBOAT_OTHER_STORES is set the shop keeps more than rows and objects,
and where LIFEBOAT_CONTINUOUS is, it can go back to any instant.
"""

from __future__ import annotations

import json
import os

LANE = os.environ.get("LIFEBOAT_LANE", "test")
ROLES = {"app": "lifeboat_stacks", "vault": "lifeboat_vaults", "spare": "lifeboat_spares", "forge": "lifeboat_forges"}
HOSTS = {role: f"{LANE}-{role}1" for role in ROLES}

INVENTORY: dict[str, object] = {
    "all": {
        "children": ["shop", "lifeboat_forges", "lifeboat_vaults"],
        "vars": {
            "lab_name": f"lifeboat-{LANE}",
            "lab_hosts": [{"name": name, "role": role} for role, name in HOSTS.items()],
        },
    },
    "shop": {"children": ["lifeboat_stacks", "lifeboat_spares"]},
    **{group: {"hosts": [HOSTS[role]]} for role, group in ROLES.items()},
    "_meta": {"hostvars": {}},
}

if os.environ.get("LIFEBOAT_OTHER_STORES"):
    INVENTORY["other_stores"] = {"children": ["shop"]}

if os.environ.get("LIFEBOAT_CONTINUOUS"):
    INVENTORY["continuous"] = {"children": ["shop"]}

if __name__ == "__main__":
    print(json.dumps(INVENTORY))
