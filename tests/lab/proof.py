"""Print a recovery's evidence (JSON on standard input) in a few lines; fail unless its verdict is PASS.

Usage: proof.py BACKUP_ID FAULT. BACKUP_ID is empty where the recovery needs no backup.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    expected, fault = sys.argv[1:3]
    record = json.load(sys.stdin)
    backup = record["backup"] or {"id": ""}
    if backup["id"]:
        print(f"backup:  {backup['id']}, taken {backup['taken_at']}")
    print(f"fault:   {fault}")
    for phase in record["phases"]:
        print(f"phase:   {phase['name']:<8} {phase['seconds']:6.1f} s")
    print(f"total:   {record['seconds']:.1f} s; the strategy allows {record['target_seconds'] / 3600:g} h")
    for check in record["checks"]:
        print(f"check:   {check['result']}  {check['name']}: {check['detail']}")
    print(f"verdict: {record['verdict']}")
    return 0 if record["verdict"] == "PASS" and backup["id"] == expected else 1


if __name__ == "__main__":
    sys.exit(main())
