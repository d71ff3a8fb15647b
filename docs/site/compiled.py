"""For the API reference: what Python can't see of compiled classes isn't shown, and arguments of classes are."""

from __future__ import annotations

from typing import Any

import griffe


class Compiled(griffe.Extension):
    """Leaves out functions of C and Python's own methods; what makes an object is its class's signature."""

    def on_class_members(self, *, cls: griffe.Class, **arguments: Any) -> None:
        """Choose among the members of a class."""
        for name, member in list(cls.members.items()):
            decorators = member.decorators if isinstance(member, griffe.Function) else []
            if any(str(decorator.value).startswith("cython.cfunc") for decorator in decorators):
                del cls.members[name]
            elif name == "__new__" and isinstance(member, griffe.Function):
                del cls.members[name]
                member.name = "__init__"
                member.parameters = griffe.Parameters(griffe.Parameter("self"), *list(member.parameters)[1:])
                cls.members["__init__"] = member
        for name in [name for name in cls.members if name.startswith("__") and name != "__init__"]:
            del cls.members[name]
        made = cls.members.get("__init__")
        if isinstance(made, griffe.Function):
            made.docstring = None  # it says to see the class
