# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every module says that works on a stack: which one, and the words for what it supports."""

    # Of a module that needs no stack. The requirements come last: more of them may follow.
    NO_STACK = r"""
attributes:
  check_mode:
    description: Can run without changing anything.
  diff_mode:
    description: Shows what changed or would change.
author:
  - The Lifeboat founders (@lifeboat)
requirements:
  - Python >= 3.9 on the managed host
"""

    # The same for one that works on a stack. Written out: ansible-test reads plain strings only.
    DOCUMENTATION = r"""
options:
  stack:
    description:
      - Name of the stack, as C(lifeboat.dr.deploy) configured it under O(config_directory).
      - Empty means the only one there is.
    type: str
    default: ""
  config_directory:
    description: Where the host's configuration lies.
    type: path
    default: /etc/lifeboat
  settings:
    description:
      - The configuration itself, instead of the file, for a host where nothing was deployed, such as one that verifies
        backups in S3 after the original is lost. Same keys as the file.
    type: dict
  secrets:
    description: >-
      Secrets that go with O(settings): C(database_password), C(database_backup_password), C(s3_access_key),
      C(s3_secret_key), C(objects_access_key), C(objects_secret_key), C(objects_admin_access_key),
      C(objects_admin_secret_key), C(vault_access_key), C(vault_secret_key).
    type: dict
  seal:
    description:
      - The seal of a recovery point. It and the backups that it names by their seals are believed, whatever key signed
        them, and where no other is named they are what is recovered.
    type: str
    default: ""
attributes:
  check_mode:
    description: Can run without changing anything.
  diff_mode:
    description: Shows what changed or would change.
author:
  - The Lifeboat founders (@lifeboat)
requirements:
  - Python >= 3.9 on the managed host
  - Docker Engine with the compose plugin, where the stack is a Compose project
"""

    # The support of a module that only looks.
    READS_ONLY = r"""
attributes:
  check_mode:
    support: full
    details: Changes nothing in any case.
  diff_mode:
    support: none
    details: Changes nothing.
"""

    # The support of a module that carries a plan out.
    CARRIES_OUT = r"""
attributes:
  check_mode:
    support: full
    details: Does nothing; the plan says what it would do.
  diff_mode:
    support: none
    details: The plan says it.
"""
