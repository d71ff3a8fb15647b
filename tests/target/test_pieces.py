"""Stencils' assembly is parted, and nothing is lost."""

from __future__ import annotations

import platform

import pytest

from wasmloom.target import pieces

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="is about x86-64 assembly")


def split(text: str) -> tuple[list[str], list[str]]:
    lines = [line if line.startswith(".") else "\t" + line.replace(" ", "\t", 1) for line in text.split("; ")]
    hot, cold = pieces.split(lines, "next", ".Lend", "trap".__eq__)
    return [line.strip().replace("\t", " ") for line in hot], [line.strip().replace("\t", " ") for line in cold]


@pytest.mark.parametrize(
    ("text", "hot", "cold"),
    [
        ("addl %eax, %esi; jmp next", "addl %eax, %esi", ""),
        # Conditions are turned round where what they lead to follows.
        ("cmpl %eax, %esi; jge next; jmp taken", "cmpl %eax, %esi; jl taken", ""),
        ("ja next; jmp *%rax", "ja .Lend; jmp *%rax", ""),
        # What ends in a trap lies apart, with what only leads there.
        (
            "je .LBB0_1; incl %esi; jmp next; .LBB0_1:; movl $2, %esi; jmp trap@PLT",
            "je .LBB0_1; incl %esi",
            ".LBB0_1:; movl $2, %esi; jmp trap@PLT",
        ),
        (
            "je .LBB0_1; jmp next; .LBB0_1:; jne .LBB0_2; jmp trap; .LBB0_2:; decl %eax; jmp trap",
            "je .LBB0_1",
            ".LBB0_1:; jne .LBB0_2; jmp trap; .LBB0_2:; decl %eax; jmp trap",
        ),
        # A loop's back-edge is one jump, unless an interrupt is there.
        (
            "jge next; cmpq $0, 8(%r15); jne .LBB0_1; jmp taken; .LBB0_1:; jmp trap",
            "jge .Lend; cmpq $0, 8(%r15); je taken; jmp .LBB0_1",
            ".LBB0_1:; jmp trap",
        ),
        # What may come back doesn't; from what lies apart, jumps to what follows go to the end.
        (
            "je .LBB0_1; jmp next; .LBB0_1:; jne trap; jmp next",
            "je .LBB0_1; jmp .Lend; .LBB0_1:; jne trap",
            "",
        ),
        # What goes on comes last.
        ("je .LBB0_1; jmp *%rax; .LBB0_1:; jmp next", "je .LBB0_1; jmp *%rax; .LBB0_1:", ""),
        ("je .LBB0_2; jmp *%rax; .LBB0_2:; jmp next; .LBB0_3:; jmp *%rcx", None, ""),
        # Nothing else happens.
        ("movl $2, %esi; jmp trap", "movl $2, %esi; jmp trap", ""),
    ],
)
def test_splitting(text: str, hot: str | None, cold: str) -> None:
    found = split(text)
    if hot is not None:
        assert found[0] == hot.split("; ")
    else:
        assert found[0][-1] == ".LBB0_2:"
    assert found[1] == (cold.split("; ") if cold else [])


@pytest.mark.parametrize(
    ("line", "shorter"),
    [
        ("movabsq\t$small, %rax", "movq\t$small, %rax"),
        ("movabsq\t$small-1, %r8", "movq\t$small-1, %r8"),
        ("leaq\tsmall+4(%rip), %rcx", "movq\t$small+4, %rcx"),
        ("movabsq\t$large, %rax", None),
        ("movabsq\t$4611686018427387872, %r8", None),
        ("leaq\tsmall(%r13), %rcx", None),
    ],
)
def test_shorter_loads(line: str, shorter: str | None) -> None:
    assert pieces.shorten("\t" + line, "small".__eq__) == "\t" + (shorter or line)
