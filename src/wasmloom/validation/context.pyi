"""Types of the context's Python surface; the attributes are declared in ``context.pxd``."""

from wasmloom.binary.decoder import DecodedModule

class Context:
    """See ``context.py``."""

    module: DecodedModule
    stack_switching: bool
    features: dict[str, tuple[str, int]]
