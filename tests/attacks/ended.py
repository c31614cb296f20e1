# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an attack ends: 0 where it got something, 1 where it got nothing, 2 where it was not made as it is meant.

A script raises SystemExit with a sentence for the last. Python would end with 1 then, as if the product had held, and
also where the script itself has a fault.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Callable

NOTHING_SHOWN = 2


def end(main: Callable[[], int], stack: str = "") -> None:
    """stack: a name of this run alone, whose locks are removed."""
    try:
        code = main()
    except SystemExit as exc:
        print(exc, file=sys.stderr)
        code = NOTHING_SHOWN
    except Exception:
        traceback.print_exc()
        code = NOTHING_SHOWN
    for lock in (stack, f"{stack}.verify") if stack else ():
        Path(f"/run/lifeboat/lifeboat-{lock}.lock").unlink(missing_ok=True)
    sys.exit(code)
