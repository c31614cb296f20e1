#!/usr/bin/env python3
"""The host without containers, in the lane of molecule/inventory/hosts.py. test_systemd.py makes it."""

from __future__ import annotations

import json
import os

HOST = f"{os.environ.get('LIFEBOAT_LANE', 'test')}-ledger1"

print(json.dumps({"lifeboat_stacks": {"hosts": [HOST]}, "_meta": {"hostvars": {}}}))
