#!/usr/bin/env python3
"""The host that watches, in the lane of molecule/inventory/hosts.py. Only this scenario makes it: converge.yml."""

from __future__ import annotations

import json
import os

HOST = f"{os.environ.get('LIFEBOAT_LANE', 'test')}-watch1"

print(json.dumps({"lifeboat_watch": {"hosts": [HOST]}, "_meta": {"hostvars": {}}}))
