"""Annotations that the assembler uses (Core 3.0, section 6.3.6 and appendices A.4 and A.5).

The lexer sets them aside with the token that they precede. The parser takes them at tokens that may have one; an
annotation that is never taken is misplaced.
"""

from __future__ import annotations

from typing import NoReturn

from wasmloom.errors import CompileError
from wasmloom.text.cursor import Cursor
from wasmloom.text.lexer import Annotation, Tokens
from wasmloom.text.literals import LiteralError, string_bytes


class AnnotationParser(Cursor):
    """Hands out annotations."""

    def __init__(self, tokens: Tokens, pos: int) -> None:
        super().__init__(tokens, pos)
        #: annotations that have not been taken yet: token that they precede → annotations
        self.annotations: dict[int, list[Annotation]] = {}
        #: the tokens that annotations have preceded, in order
        self.annotated: list[int] = []

    def fail_annotation(self, item: Annotation, reason: str) -> NoReturn:
        """Raise `CompileError` about an annotation."""
        line, column = item.place
        raise CompileError(f"@{item.name} annotation: {reason}", line=line, column=column)

    def take_annotations(self, name: str) -> list[Annotation]:
        """Take the annotations of this name that stand before the current token."""
        items = self.annotations.get(self.pos)
        if not items:
            return []
        taken = [item for item in items if item.name == name]
        rest = [item for item in items if item.name != name]
        if rest:
            self.annotations[self.pos] = rest
        else:
            del self.annotations[self.pos]
        return taken

    def annotation_string(self, item: Annotation, token: str) -> bytes:
        """The bytes of a string in an annotation."""
        try:
            return string_bytes(token)
        except LiteralError as error:
            self.fail_annotation(item, str(error))

    def annotation_name(self, item: Annotation, token: str) -> str:
        """The name in a string in an annotation."""
        try:
            return self.annotation_string(item, token).decode("utf-8")
        except UnicodeDecodeError:
            self.fail_annotation(item, "malformed UTF-8 encoding")

    def name_annotation(self, what: str) -> str | None:
        """The name in `(@name "…")`, if one stands here (Core 3.0, appendix A.5)."""
        taken = self.take_annotations("name")
        if not taken:
            return None
        if len(taken) > 1:
            self.fail_annotation(taken[1], f"multiple {what} names")
        if len(taken[0].tokens) != 1 or taken[0].tokens[0][:1] != '"':
            self.fail_annotation(taken[0], "malformed name")
        return self.annotation_name(taken[0], taken[0].tokens[0])
