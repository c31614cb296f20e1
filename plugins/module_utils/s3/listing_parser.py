# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of a listing, read in a third of the time that ElementTree and its elements take.

Nearly all rows of a page have the same fields in the same order, and no text in them that XML writes in another way.
These rows are taken out by one regular expression, and a mark stays where they were; ElementTree reads what is left. So
every page is XML or refused, its rows keep their places, and a row of another form is read as it always was.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional
from xml.etree import ElementTree

from . import signed

MARK, _COUNT = "_", "n"
_DECLARED = re.compile(r"""<\?xml version=["']1\.0["'](?: encoding=["'](?i:utf-8)["'])?[ ]?\?>""")
_ROW = re.compile(r"<(Contents|Version|DeleteMarker)>")
_TAG = re.compile(r"<(/?[A-Za-z]+)>[^<]*")
_WITH_FIELDS = ("UserMetadata", "Internal")  # MinIO's, with fields of any names
_INSIDE = re.compile(rf"<({'|'.join(_WITH_FIELDS)})>.*?</\1>", re.DOTALL)
_TAGS = "UserTags"  # what only those rows have whose objects have tags
_LONGEST = 8192  # characters of a first row whose form is worth looking at
# What stands in a document as it is, and so without the quotation marks around an ETag, which servers write as &#34;.
_PLAIN, _QUOTE = r"[^<>&\x00-\x1f\ufffe\uffff]*", '(?:&#34;|&quot;|")?'
_ETAG = f'{_QUOTE}({_PLAIN[:2]}"{_PLAIN[2:]}){_QUOTE}'


@dataclass(frozen=True)
class Page:
    """root: the document, in which children MARK stand for the rows that are in `columns`, each for marks() of them.
    kind: the name of these rows. columns: the texts of each of their fields, in their order; an ETag's without its
    quotation marks."""

    root: ElementTree.Element
    kind: str = ""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return how many rows are in `columns`."""
        return max(map(len, self.columns.values()), default=0)

    def marks(self, child: ElementTree.Element) -> int:
        """For how many rows that child of the root stands; 0 for one that is there itself, as all are where none was
        taken out: a server may name its elements as it likes."""
        return int(child.get(_COUNT, "0")) if self.columns and signed.plain(child.tag) == MARK else 0

    def last(self, name: str) -> str:
        """Return the text of the last row that has such a field with one; empty where none has."""
        at = self.count
        for child in reversed(self.root):
            of = self.marks(child)
            some = self.columns.get(name, ())[at - of : at] if of else [signed.fields(child).get(name, "")]
            at -= of
            for text in reversed(some):
                if text:
                    return text
        return ""


def read(body: bytes, attempted: str, subject: str) -> Page:
    """Return the page that is such a document; raises as signed.xml() does where it is none."""
    return _quick(body) or Page(signed.xml(body, attempted, subject))


def _quick(body: bytes) -> Optional[Page]:
    """None where nothing is gained, or there is anything that the expression would have to know more of XML for."""
    try:
        text = body.decode()
        declared = _DECLARED.match(text)
        text = text[declared.end() :] if declared else text
        first = _ROW.search(text)
        if first is None or any(sign in text for sign in ("<!", "<?", f"<{MARK}")):
            return None
        end = text.find(f"</{first[1]}>", first.end(), first.start() + _LONGEST)
        row = _INSIDE.sub(r"<\1></\1>", text[first.start() : end] + f"</{first[1]}>")
        form = _form(tuple(tag for tag in _TAG.findall(row) if tag.strip("/") != _TAGS)) if end > 0 else None
        if form is None:
            return None
        expression, names = form
        parts = expression.split(text)
        every = len(names) + 1
        if any(f":{MARK}" in part for part in parts[::every]):  # perhaps a mark of another namespace
            return None
        root = ElementTree.fromstring(_left(parts[::every]))  # noqa: S314 - expat bounds entity expansion since 2.4.1
    except (ValueError, ElementTree.ParseError):
        return None
    page = Page(root, first[1], {name: parts[place::every] for place, name in enumerate(names, 1) if name})
    return page if sum(map(page.marks, root)) == len(parts) // every else None


def _left(texts: Sequence[str]) -> str:
    """Return the document without the rows that stood between the texts, of which most are empty."""
    made, count = [texts[0]], 0
    for text in texts[1:]:
        count += 1
        if text:
            made += [f'<{MARK} {_COUNT}="{count}"/>', text]
            count = 0
    return "".join(made)


@functools.lru_cache(maxsize=64)
def _form(tags: tuple[str, ...]) -> Optional[tuple[re.Pattern[str], tuple[str, ...]]]:
    """Return what finds all rows with these tags in this order, and the names of the fields whose texts it tells."""
    made, names, inside = "", list[str](), list[str]()
    for tag, following in zip(tags, (*tags[1:], "")):
        made += f"<{tag}>"
        if tag == f"/{_WITH_FIELDS[0]}":
            made += f"(?:<{_TAGS}>((?:{_PLAIN[:-1]}|&amp;)*)</{_TAGS}>)?"
            names.append(_TAGS)
        if not tag.startswith("/"):
            inside.append(tag)
        elif not inside or inside.pop() != tag[1:]:
            return None
        if following == f"/{tag}":
            if tag in _WITH_FIELDS and len(inside) == 2:
                made += f"((?:<([A-Za-z][A-Za-z0-9_.-]*)>{_PLAIN}</\\{len(names) + 2}>)*)"
                names += [tag, ""]
                continue
            names += [tag] if len(inside) == 2 else []
            made += (_ETAG if tag == "ETag" else f"({_PLAIN})") if len(inside) == 2 else _PLAIN
        elif len(inside) == 2 and tag[0] != "/" and tag != "Owner":
            return None  # a field with more than a text in it; those of the owner are of no interest
    return (re.compile(made), tuple(names)) if names and not inside else None
