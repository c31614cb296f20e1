# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where a bucket is deleted. What writes to a vault does not import it.

SeaweedFS removes a bucket with all that is in it; other servers refuse where it is not empty.
"""

from __future__ import annotations

from ..base.errors import UsageError
from . import client
from .bucket import Bucket


def delete_bucket(bucket: Bucket, confirm: str) -> None:
    """Delete the bucket, after the caller emptied it. `confirm`: its name once more, from where the caller knows it.

    Raises UsageError where the two are not the same name, and what the server's refusal means.
    """
    if not confirm or confirm != bucket.name:
        remedy = "Nothing was deleted. Look into the bucket, and delete it by hand if it may go."
        raise UsageError("delete the bucket", bucket.url, f"the name that was confirmed is {confirm!r}", remedy)
    with client.translated_errors("delete the bucket", bucket.url):
        bucket.client.delete_bucket(Bucket=confirm)
