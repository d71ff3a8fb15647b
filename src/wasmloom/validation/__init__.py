"""The typing rules (Core 3.0, chapter 3, and the stack switching Explainer).

`validate_module` checks a decoded module. A `Validator` can check one function at a time; after the checks its
`features` say what the module uses and where first, so an engine can refuse by name what it doesn't execute.
"""

from __future__ import annotations

from wasmloom.binary.decoder import DecodedModule
from wasmloom.validation import control_rules, gc_rules, plain_rules, reference_rules, stack_rules  # noqa: F401  (they register)
from wasmloom.validation.bodies import check_bodies
from wasmloom.validation.modules import check_module_rules
from wasmloom.validation.validator import Validator, check_rules, new_validator

check_rules()

__all__ = ["Validator", "validate_function", "validate_module"]


def validate_module(module: DecodedModule, *, bodies: bool = True, stack_switching: bool = True) -> Validator:
    """Check a module; returns the validator, for its `features` and, without `bodies`, for checking functions later.

    Raises `ValidationError` when the module isn't valid, and `CompileError` when a function body is malformed. Without
    `stack_switching` the rules are those of Core 3.0, where tags have no results, and branches cast downwards only.
    """
    validator = new_validator(module, stack_switching)
    check_module_rules(validator)
    if bodies:
        check_bodies(validator)
    return validator


def validate_function(validator: Validator, index: int) -> None:
    """Check the body of one function; `index` counts imports. Errors are as for `validate_module`."""
    validator.check_function(index)
