"""Names and excerpts of what guests, files and callers bring, made fit for messages.

Whatever is shown to people (errors, backtraces, `repr`, logs, listings) and comes from a module, a text or an argument
goes through `printable` or `quoted`: a name can then neither steer a terminal, nor begin a line of its own, nor turn
the direction of writing, nor hide, nor fill a screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

#: How many characters of a name a message shows: names mangled by C++ and Rust compilers are often longer than 100.
MOST = 200

#: Characters that `str.isprintable` takes for visible, and that are invisible: Unicode's "default ignorable" ones.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def is_visible(char: str) -> bool:
    """Whether a character shows itself: not those for control and formatting (bidi, zero width), line separators, odd
    spaces, surrogates, private use, and what isn't assigned.
    """
    return char.isprintable() and char not in _INVISIBLE


def _escaped(char: str) -> str:
    """One character, written as the text format would if it isn't to be seen."""
    if is_visible(char):
        return char
    return _SHORT.get(char) or f"\\u{{{ord(char):x}}}"


def printable(text: str, most: int = MOST) -> str:
    """`text` on one line of at most `most` visible characters: others are escaped, and the rest is cut off.

    What isn't text (anybody can make errors and frames, of anything) is shown as Python does.
    """
    if type(text) is not str:
        # A plain string, whatever methods the class has.
        text = str.__str__(text if isinstance(text, str) else repr(text))
    if len(text) <= most and text.isascii() and text.isprintable():
        return text
    shown = whole = ""
    for char in text:
        shown += _escaped(char)
        if len(shown) > most:
            return whole + "…"
        if len(shown) < most:
            whole = shown
    return shown


def two_level(module: str, name: str) -> str:
    """What messages call an import, or an export of a namespace: ``module.name``."""
    return f"{printable(module)}.{printable(name)}"


def quoted(text: str, most: int = MOST) -> str:
    """As `printable`, in single quotes, which are escaped inside."""
    return "'" + printable(text, most).replace("'", "\\'") + "'"


def listed(texts: Iterable[str], show: Callable[[str], str] = quoted, most: int = 10) -> str:
    """The first of some names, with commas between them, then "…" if there are more."""
    shown = [show(text) for text in islice(texts, most + 1)]
    return ", ".join([*shown[:most], "…"] if len(shown) > most else shown)
