# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version, once. galaxy.yml says the same; a test holds them together."""

from __future__ import annotations

VERSION = "0.1.0"
