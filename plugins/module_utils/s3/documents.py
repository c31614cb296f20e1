# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML documents that a bucket's settings are: kept with all that they say, and compared by what they mean.

boto3 leaves out the elements that it does not know (MinIO's DelMarkerExpiration), and the rest may be refused then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional
from xml.etree import ElementTree

from ..base import typed
from ..base.errors import LifeboatError
from . import signed

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
Element = ElementTree.Element


def read(text: str, subject: str) -> Element:
    """Raises LifeboatError where it is no XML."""
    attempted = "read a setting of the bucket"
    return shallow(signed.xml(text.encode("utf-8", "replace"), attempted, subject), attempted, subject)


def shallow(root: Element, attempted: str, subject: str) -> Element:
    """Return the same. Raise LifeboatError if it has more levels than any setting, which no recursion could follow."""
    level = [root]
    for _depth in range(typed.DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return root
    raise LifeboatError(attempted, subject, f"its XML has more than {typed.DEPTH} levels")


def write(root: Element) -> bytes:
    """As servers take it: in S3's namespace, nothing left out."""
    copy = _plain(root)
    copy.set("xmlns", NAMESPACE)
    return bytes(ElementTree.tostring(copy, encoding="utf-8"))


def text(root: Element) -> str:
    """As it is put on record."""
    return ElementTree.tostring(_plain(root), encoding="unicode")


def _plain(element: Element) -> Element:
    """Return a copy without namespaces and without the line breaks between elements."""
    copy = Element(signed.plain(element.tag), element.attrib)
    copy.text = (element.text or "").strip() if len(element) else element.text
    copy.extend(_plain(child) for child in element)
    return copy


def new_element(name: str, children: Sequence[Element] = (), content: str = "") -> Element:
    element = Element(name)
    element.text = content or None
    element.extend(children)
    return element


def child(element: Element, *path: str) -> Optional[Element]:
    """Return the first element at that path, whatever its namespace."""
    found: Optional[Element] = element
    for name in path:
        found = next((one for one in found if signed.plain(one.tag) == name), None) if found is not None else None
    return found


def content(element: Element, *path: str) -> Optional[str]:
    """Its text; None where there is no such element."""
    found = child(element, *path)
    return None if found is None else (found.text or "").strip()


def meaning(element: Element) -> object:
    """Return the same for all documents that mean the same: the order of elements and empty space mean nothing."""
    below = sorted(repr(meaning(one)) for one in element) if len(element) else [(element.text or "").strip()]
    return [signed.plain(element.tag), *below]


def same(first: str, second: str, subject: str) -> bool:
    try:
        return meaning(read(first, subject)) == meaning(read(second, subject))
    except LifeboatError:
        return first == second
