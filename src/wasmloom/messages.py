"""Names and excerpts of what guests, files and callers bring, made fit for messages.

Whatever is shown to people (errors, backtraces, `repr`, logs, listings) and comes from a module, a text or an argument
goes through `printable` or `quoted`: a name can then neither steer a terminal, nor begin a line of its own, nor turn
the direction of writing, nor hide, nor fill a screen.
"""

from __future__ import annotations

import re

#: How many characters of a name a message shows: names mangled by C++ and Rust compilers are often longer than 100.
MOST = 200

#: Characters that `str.isprintable` takes for visible, and that nobody sees: Unicode's "default ignorable" ones.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PLAIN = re.compile("[\x20-\x7e]*")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escaped(char: str) -> str:
    """One character, written as the text format would if it isn't to be seen: control characters, formatting (bidi,
    zero width), line separators, odd spaces, surrogates, private use, and what isn't assigned.
    """
    if char.isprintable() and not _INVISIBLE.match(char):
        return char
    return _SHORT.get(char) or f"\\u{{{ord(char):x}}}"


def printable(text: str, most: int = MOST) -> str:
    """`text` on one line of visible characters: others are escaped, and what is beyond `most` characters cut off."""
    shown = text if len(text) <= most else text[: most - 1]
    if _PLAIN.fullmatch(shown) is None:
        shown = "".join(map(_escaped, shown))
    return shown if len(text) <= most else shown + "…"


def quoted(text: str, most: int = MOST) -> str:
    """As `printable`, in single quotes, which are escaped inside."""
    return "'" + printable(text, most).replace("'", "\\'") + "'"
