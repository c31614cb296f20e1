# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are gone and served all the same. Everything else an assessment says: test_objects_plan.py."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lifeboat.dr.plugins.module_utils.objects import condition

OURS = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1]


def test_files_that_only_an_open_handle_still_reaches_are_counted(tmp_path: Path) -> None:
    gone, kept = tmp_path / "gone.dat", tmp_path / "kept.dat"
    for path in (gone, kept):
        path.write_bytes(b"x" * 5000)
    with gone.open("rb"), gone.open("rb"), kept.open("rb"):  # the same file twice is one
        assert condition._deleted_bytes(str(tmp_path), OURS) == 0
        gone.unlink()
        assert condition._deleted_bytes(str(tmp_path), OURS) == 5000
        assert condition._deleted_bytes(str(tmp_path / "elsewhere"), OURS) == 0
        assert condition._deleted_bytes(str(tmp_path), "another container") == 0
    assert condition._deleted_bytes(str(tmp_path), OURS) == 0
