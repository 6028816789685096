"""HTML and SVG as values: text is escaped unless it was made here. `charts` and `page` write with it."""

from collections.abc import Iterable
from html import escape

VOID = {"meta", "br", "col"}
"""Elements that have no end tag."""


class Markup(str):
    """Text that is markup already; every other string is escaped where it is put in."""

    __slots__ = ()


Content = str | Iterable["Content"]
"""Text (escaped), markup, or a sequence of both."""


def join(content: Content) -> Markup:
    """Return content as markup."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(content))
    return Markup("".join(map(join, content)))


def element(name: str, /, *content: Content, **attributes: str | float | None) -> Markup:
    """Return an element. attributes: `class_` is class, `aria_label` aria-label; None: left out; numbers: 1 decimal."""
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    start = Markup(f"<{' '.join(parts)}>")
    return start if name in VOID else Markup(f"{start}{join(content)}</{name}>")
