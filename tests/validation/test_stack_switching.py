"""Typing rules of continuations that are easy to get wrong."""

from __future__ import annotations

import pytest

from tests.validation.check import invalid, valid

TYPES = """
  (type $f (func (param i32 i64) (result f32)))
  (type $k (cont $f))
  (type $rest (func (param i64) (result f32)))
  (type $krest (cont $rest))
  (type $none (func (result f32)))
  (type $knone (cont $none))
  (tag $t (param i32) (result i64))
  (tag $plain)
  (tag $ends (result f32)) (tag $other (result i64))
"""


@pytest.mark.parametrize(
    "code",
    [
        "(param (ref $k)) (result (ref $krest)) (cont.bind $k $krest (i32.const 0) (local.get 0))",
        "(param (ref $k)) (result (ref $k)) (cont.bind $k $k (local.get 0))",
        "(param (ref null $f)) (result (ref $k)) (cont.new $k (local.get 0))",
        "(result i64) (suspend $t (i32.const 0))",
        "(param (ref $k)) (result f32) (resume $k (i32.const 0) (i64.const 0) (local.get 0))",
        # A handler gets the tag's parameters and a continuation from the tag's results to what the resumed one gives.
        """(param (ref $k)) (result f32)
           (block $h (result i32 (ref $krest))
             (return (resume $k (on $t $h) (i32.const 0) (i64.const 0) (local.get 0))))
           (unreachable)""",
        # A loop's label is a target like any other.
        """(param (ref $k)) (result f32) (i32.const 0) (cont.bind $k $krest (i32.const 0) (local.get 0))
           (loop $h (param i32 (ref null $krest)) (result f32)
             (drop) (drop)
             (resume $k (on $t $h) (i32.const 0) (i64.const 0) (local.get 0)))""",
        "(param (ref $k)) (result f32) (resume_throw $k $plain (local.get 0))",
        "(param (ref $k) exnref) (result f32) (resume_throw_ref $k (local.get 1) (local.get 0))",
        "(param (ref $k)) (result f32) (resume $k (on $ends switch) (i32.const 0) (i64.const 0) (local.get 0))",
    ],
)
def test_valid(code: str) -> None:
    valid(f"(module {TYPES} (func {code}))")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "(param (ref $krest)) (drop (cont.bind $krest $k (local.get 0)))",
            "type mismatch: cont.bind expected at most 1",
        ),
        (
            "(param (ref $k)) (drop (cont.bind $k $krest (local.get 0)))",
            "type mismatch: cont.bind expected i32 but found nothing",
        ),
        ("(param (ref $f)) (drop (cont.new $krest (local.get 0)))", "type mismatch: cont.new expected (ref null 2)"),
        ("(param (ref $f)) (drop (cont.new $f (local.get 0)))", "non-continuation type 0"),
        (
            "(param (ref $k)) (block $h (drop (resume $k (on $t $h) (i32.const 0) (i64.const 0) (local.get 0))))",
            "type mismatch",
        ),
        (
            "(param (ref $k)) (block $h (result i32 (ref cont)) (drop (resume $k (on $t $h) (i32.const 0) (i64.const 0)"
            " (local.get 0))) (unreachable)) (unreachable)",
            "type mismatch: instruction requires concrete continuation reference type but label has [i32 (ref cont)]",
        ),
        (
            "(param (ref $k)) (block $h (result i32 (ref $f)) (drop (resume $k (on $t $h) (i32.const 0) (i64.const 0)"
            " (local.get 0))) (unreachable)) (unreachable)",
            "non-continuation type 0",
        ),
        (
            "(param (ref $k)) (block $h (result i32 (ref $knone)) (drop (resume $k (on $t $h) (i32.const 0)"
            " (i64.const 0) (local.get 0))) (unreachable)) (unreachable)",
            "type mismatch: resume expected 1 types but found 0 in a handler's continuation type",
        ),
        (
            "(param (ref $k)) (drop (resume $k (on $t switch) (i32.const 0) (i64.const 0) (local.get 0)))",
            "type mismatch: a switch handler's tag has no parameters",
        ),
        # What is switched to would end without the result that the resumption gives, or with another one.
        (
            "(param (ref $k)) (drop (resume $k (on $plain switch) (i32.const 0) (i64.const 0) (local.get 0)))",
            "type mismatch: resume expected 1 types but found 0 in the results of a continuation",
        ),
        (
            "(param (ref $k)) (drop (resume $k (on $other switch) (i32.const 0) (i64.const 0) (local.get 0)))",
            "type mismatch: resume expected f32 but found i64 in the results of a continuation",
        ),
        (
            "(param (ref $k)) (drop (resume_throw $k $plain (on $plain switch) (local.get 0)))",
            "type mismatch: resume_throw expected 1 types but found 0",
        ),
        (
            "(param (ref $k)) (switch $k $plain (i32.const 0) (local.get 0))",
            "type mismatch: switch expected a continuation",
        ),
        ("(param (ref null cont)) (drop (ref.test (ref cont) (local.get 0)))", "invalid cast"),
    ],
)
def test_invalid(code: str, message: str) -> None:
    assert invalid(f"(module {TYPES} (func {code}))").reason.startswith(message)


def test_label_types_are_compared_by_structure() -> None:
    # $again has the structure of $krest's function type, but isn't the same type: it isn't final.
    valid(
        f"""(module {TYPES} (type $again (sub (func (param i64) (result f32)))) (type $kagain (cont $again))
        (func (param (ref $k)) (result f32)
          (block $h (result i32 (ref $kagain))
            (return (resume $k (on $t $h) (i32.const 0) (i64.const 0) (local.get 0))))
          (unreachable)))"""
    )


def test_tag_results_need_stack_switching() -> None:
    valid("(module (tag (result i32)))")
    assert invalid("(module (tag (result i32)))", stack_switching=False).reason == "non-empty tag result type"
