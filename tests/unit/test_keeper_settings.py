# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keeper is told of a stack: refused where it cannot work, by the setting's name."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings

SSH = {"host": "app1", "user": "keeper-shop", "identity_file": "/etc/k", "known_hosts": "/etc/h"}


def given(**changes: Any) -> dict[str, Any]:
    return {"directory": "/vault/shop", "source": {"mounted": "/mnt/shop"}, **changes}


def test_a_keeper_has_a_repository_of_its_own_and_no_stack_to_run() -> None:
    found = config.from_mapping({"stack": "shop", "keeper": given(source=SSH)})
    assert found.repository == LocalSettings(path="/vault/shop/repository")
    with pytest.raises(UsageError, match="runtime"):
        config.from_mapping({"stack": "shop"})


BAD = {
    "no host": ({"source": {"host": "-oProxyCommand=x", "user": "u"}}, "source.host"),
    "no account": ({"source": {"host": "h", "user": "root x"}}, "source.user"),
    "a relative key": (
        {"source": {"host": "h", "user": "u", "identity_file": "k", "known_hosts": "/k"}},
        "identity_file",
    ),
    "a blank in a path": ({"source": {"mounted": "/a b"}}, "source.mounted"),
    "no quota": ({"quota": ""}, "quota"),
    "a quota of words": ({"quota": "much"}, "quota"),
    "a root": ({"directory": "/x"}, "directory"),
}


@pytest.mark.parametrize("bad", BAD)
def test_settings_that_cannot_work_are_refused(bad: str) -> None:
    changes, said = BAD[bad]
    with pytest.raises(UsageError, match=said):
        config.from_mapping({"stack": "shop", "keeper": given(**changes)})
