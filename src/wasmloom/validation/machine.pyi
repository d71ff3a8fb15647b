"""Types of the validator's Python surface."""

from wasmloom.validation.context import Context

class Validator(Context):
    """See ``machine.py``."""

    def check_function(self, index: int) -> None: ...
    def check_functions(self) -> None: ...

def check_rules() -> None: ...
