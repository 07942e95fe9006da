"""HTML and SVG as text in which whatever is no markup is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset({"meta", "img", "input", "br"})


class Markup(str):
    """Text that is markup already. All other text is escaped when it is put into markup."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        children: In order; all but :class:`Markup` is escaped.
        attributes: By their names, with ``_`` for ``-`` and after a word of Python's (``class_``); None and False are
            left out, True stands without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[object], between: str = "") -> Markup:
    """Return ``children`` one after the other; all but :class:`Markup` is escaped."""
    return Markup(between.join(child if isinstance(child, Markup) else escape(str(child)) for child in children))


def bullets(lines: Iterable[object]) -> Markup:
    """Return a list with one entry per line; nothing where there are none."""
    entries = [tag("li", line) for line in lines]
    return tag("ul", *entries) if entries else Markup("")


def table(caption: str, headings: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Markup:
    """Return a table whose first column names its rows; it scrolls sideways where the page is narrow."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag("tr", *(tag("td", cell) if place else tag("th", cell, scope="row") for place, cell in enumerate(row)))
        for row in rows
    ]
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), **attributes)
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def data_island(value: Any, id_: str) -> Markup:
    """Return ``value`` as JSON that scripts of the page find by ``id_``, and that ends no element whatever it holds.

    What JSON does not have (not a number, infinite) becomes null.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{escape(id_)}">{text}</script>')


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
