"""Makes the stencils: one object file, compiled when the package is built, which `wasmloom.baseline.planner` links.

Every handler that can stand in a function and calls no C code is compiled with holes
(`wasmloom.baseline.stencil_builder`), in up to three variants. What LLVM makes of it is parted into what usually runs
and what doesn't, by `wasmloom.target.pieces`; all that is then bytes and a list of what belongs into the holes. Nothing
here knows an instruction: a new handler gets its stencils by itself.

The object exports:

``wl_stencil_code``       the bytes of all stencils, each with its unlikely part behind it
``wl_stencils``           for each stencil where these begin, how many there are, and so on (`holes.STENCIL`)
``wl_stencil_numbers``    most holes: numbers of 32 bits in what usually runs (`holes.NUMBER`)
``wl_stencil_holes``      the others (`holes.HOLE`)
``wl_stencil_variants``   for each handler, and each of `EXTRA`, the numbers of its stencils, in the order of
                          `holes.VARIANTS`; -1: there is none
``wl_pinnings``           for each stencil what it has to do with pins (`roles.PINNING`)
``wl_patches``            all patches (`roles.Patch`), two bytes each
``wl_stencil_constants``  what stencils read relative to themselves
``wl_instruction_parts``  for each handler, if it is fused, the numbers of its parts, otherwise its own and -1
``wl_instruction_leads``  for each handler where in the instruction a target is, or 0, and which array it ends with
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wasmloom.baseline.holes import (
    HOLE,
    NUMBER,
    STENCIL,
    SYMBOL,
    VARIANTS,
    Array,
    Form,
    Leads,
    Symbol,
    What,
    symbol,
    value_range,
)
from wasmloom.baseline.roles import (
    FLOATS,
    INTEGERS,
    KEEPING,
    MOST_ALIKE,
    MOST_ROLES,
    Effect,
    Patch,
    Roles,
    exchanged,
    patched,
    patches,
    pinning,
    turned,
)
from wasmloom.baseline.stencil_builder import FOLLOWING, POISON_IP, SIGNATURE, StencilBuilder, declaration
from wasmloom.compiler.elf import RELOCATION, SHN_LORESERVE, SHN_UNDEF, ElfObject
from wasmloom.compiler.elf import SYMBOL as ELF_SYMBOL
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.interpreter.handlers import EXTERNALS, OUTLINED, HandlerSet
from wasmloom.interpreter.isa import Handler, shape
from wasmloom.semantics.kinds import by_name
from wasmloom.semantics.llvm import Value, module_assembly
from wasmloom.target import pieces, pins, registers, relocations
from wasmloom.target.relocation import Goal

if TYPE_CHECKING:
    from llvmlite import binding

#: Handlers that others recognise by their address in an instruction, or that stand in no function.
KEPT = frozenset(
    ("restore", "shim", "leave", "host_returned", "host_threw", "cont_return", "native", "cross_back")
)

_ATTRIBUTES = 'nounwind "no-builtins" "frame-pointer"="none"'
_HOT, _COLD = "hot", "cold"


class Hole(NamedTuple):
    """A hole at an offset in its part, and what belongs there: see `Symbol` for the rest."""

    at: int
    form: Form
    what: What
    addend: int
    offset: int = 0
    width: int = 0
    signed: int = 0
    scale: int = 1
    small: int = 0


class Part(NamedTuple):
    """The bytes of a stencil's one or other part, and its holes."""

    code: bytes = b""
    holes: tuple[Hole, ...] = ()


class Stencil(NamedTuple):
    """A stencil: what usually runs, and what doesn't. `where` registers of its roles are in both in a row."""

    hot: Part
    cold: Part
    where: tuple[Patch, ...] = ()

    @property
    def code(self) -> bytes:
        """The bytes of both."""
        return self.hot.code + self.cold.code


def _leave(b: StencilBuilder) -> None:
    """Go on with the instruction's handler, whose address it begins with."""
    b.tail_call(b.load("ptr", b.ip, align=8).text)


def _far_jump(b: StencilBuilder) -> None:
    """Go on at the address in a slot, whose address is in the "instruction"."""
    b.tail_call(b.load("ptr", b.pointer_field("slot"), align=8).text, ip=Value("%ip", "ptr"))


Body = Callable[[StencilBuilder], None]


def _jump(b: StencilBuilder) -> None:
    """Go on at the code of the instruction that the copier says."""
    b.tail_call(Symbol("entry", 0).text, ip=POISON_IP)


def _pin(register: str, loads: bool) -> Body:
    """Let a register of pins have what a slot has: from there, or from the accumulator of its class."""

    def body(b: StencilBuilder) -> None:
        is_float = register in pins.FLOATS
        if loads:
            value = b.read_slot("slot", by_name("f64" if is_float else "i64"))
            b.set_pin(register, b.as_facc(value) if is_float else value)
        else:
            b.set_pin(register, b.facc if is_float else b.acc)
        b.next()

    return body


_PIN = shape("pin", "slot:slot@0")
#: Stencils that write a register of pins → the register.
PINS = {
    f"{'load' if loads else 'set'}_{'float' if is_float else 'integer'}": (FLOATS if is_float else INTEGERS)[0]
    for loads in (False, True)
    for is_float in (False, True)
}
#: Stencils that are no instructions' have the numbers behind those of handlers.
EXTRA = (
    Handler("leave", shape("leave"), _leave),
    Handler("far_jump", shape("far_jump", "slot:ptr@0"), _far_jump),
    Handler("jump", shape("jump"), _jump),
    *(Handler(name, _PIN, _pin(register, name.startswith("load"))) for name, register in PINS.items()),
)


def candidates(handlers: HandlerSet) -> Iterator[tuple[int, Handler]]:
    """The handlers that get stencils, with their numbers: no fused ones, whose parts have some."""
    fused = set(handlers.fused.values())
    yield from enumerate(EXTRA, len(handlers.handlers))
    for number, handler in enumerate(handlers.handlers):
        if number not in fused and not handler.calls_runtime and handler.name not in KEPT:
            yield number, handler


# --- from handlers to LLVM's assembly ---


def _name(number: int, variant: str, mask: int = 0) -> str:
    return f"{variant}_{number}_{mask}"


def _looked_at(handler: Handler) -> tuple[StencilBuilder, Roles]:
    """A builder that has written a handler's stencil, and its roles."""
    builder = StencilBuilder(handler.shape)
    handler.body(builder)
    if handler.name == "leave":
        return builder, Roles(effect=Effect.AWAY)
    return builder, Roles() if handler in EXTRA else builder.roles


def module_text(chosen: Iterable[tuple[int, Handler]]) -> str:
    """The LLVM IR of the stencils of some handlers."""
    parts: list[str] = []
    declarations: dict[str, str] = {}
    for number, handler in chosen:
        plain, roles = _looked_at(handler)
        wanted = [("plain", mask) for mask in (0, *roles.masks())]
        wanted += [("wide", 0)] * plain.can_be_wide + [("direct", 0)] * plain.can_be_direct
        for variant, mask in wanted:
            builder = StencilBuilder(
                handler.shape, variant == "direct", variant == "wide", roles.registers(mask), roles.effect
            )
            handler.body(builder)
            name = _name(number, variant, mask)
            parts.append(f"define {registers.HANDLER_CONVENTION} void @{name}({SIGNATURE}) {_ATTRIBUTES} {{")
            parts += builder.lines
            parts.append("}")
            declarations.update(builder.declarations)
    text = "\n".join(parts)
    ranges: list[str] = []
    lines = [declaration(f"@{FOLLOWING}", "hidden")]
    for name in sorted(set(SYMBOL.findall(text))):
        lines.append(_declared(name, ranges))
    # Not hidden: their addresses are in slots, jumps to them go to other jumps.
    lines += [declaration(f"@{name}") for name in OUTLINED]
    lines += [f"@{name} = external global i8" for name in EXTERNALS if name not in OUTLINED]
    lines += declarations.values()
    lines += ['!0 = !{!"branch_weights", i32 1, i32 4000}']
    lines += ['!1 = distinct !{!1, !{!"llvm.loop.unroll.disable"}, !{!"llvm.loop.vectorize.enable", i1 false}}']
    return "\n".join([text, *lines, *ranges]) + "\n"


def _declared(name: str, ranges: list[str]) -> str:
    """The declaration of a hole's symbol; its range goes to `ranges`."""
    hole = symbol(name)
    assert hole is not None
    if hole.what in ("code", "callee", "entry"):
        return declaration(hole.text, "hidden")
    if hole.what != "number":
        return f"{hole.text} = external hidden global i8"
    low, high = value_range(hole)
    ranges.append(f"!{len(ranges) + 2} = !{{i64 {low}, i64 {high}}}")
    # Weak: LLVM takes no other symbol's address for null.
    return f"{hole.text} = extern_weak hidden global i8, !absolute_symbol !{len(ranges) + 1}"


def _machine(level: int) -> tuple[type[binding], binding.TargetMachine]:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    cpu = os.environ.get("WASMLOOM_CPU")
    features = "" if cpu else binding.get_host_cpu_features().flatten()
    return binding, binding.Target.from_default_triple().create_target_machine(
        cpu=cpu or binding.get_host_cpu_name(), features=features, opt=level, reloc="pic", codemodel="small"
    )


def _optimised(text: str, level: int) -> str:
    """LLVM's assembly of a module."""
    binding, machine = _machine(level)
    module = binding.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=level))
    passes.getModulePassManager().run(module, passes)
    assembly: str = machine.emit_assembly(module)
    return assembly


# --- from assembly to parts ---

_FUNCTION = re.compile(r"((?:plain|wide|direct)_\d+_\d+):")


def parted(assembly: str) -> Iterator[str]:
    """The same assembly with the parts of each function in sections of their own."""
    lines = (line.partition("#")[0].rstrip() for line in assembly.splitlines())
    function: str | None = None
    body: list[str] = []
    in_data = False
    for line in lines:
        match = _FUNCTION.fullmatch(line)
        if match:
            function, body, in_data = match[1], [], False
        elif function is not None and line.startswith(".Lfunc_end"):
            yield from _sections(function, body)
            function = None
        elif function is not None:
            if not line.startswith("\t.") and line:
                if pieces.uses_stack(line):  # unwinders count on it that none does (`baseline.described`)
                    raise ValueError(f"the stencil {function} uses the stack: {line.strip()}")
                body.append(pieces.shorten(line, _fits))
        elif line.startswith("\t.section\t.rodata"):
            in_data = True
            yield line
        elif line.startswith(("\t.text", "\t.section")):
            in_data = False
        elif in_data and line and not line.startswith(("\t.globl", "\t.type")):
            yield line


def _fits(name: str) -> bool:
    """Whether a name is that of a number which fits 32 bits, with its sign."""
    hole = symbol(name)
    if hole is None or hole.what != "number":
        return False
    return bool(hole.small) or hole.width == 2 or (hole.width == 4 and bool(hole.signed))


def _sections(name: str, body: list[str]) -> Iterator[str]:
    hot, cold = pieces.split(body, FOLLOWING, f".Lend_{name}", OUTLINED.__contains__)
    for part, lines in ((_HOT, hot), (_COLD, cold)):
        yield f'.section {part}.{name},"ax",@progbits'
        yield from lines
        if part == _HOT:
            yield f".Lend_{name}:"


def assembled(lines: Iterable[str], level: int) -> bytes:
    """The object file of some assembly."""
    binding, machine = _machine(level)
    module = binding.parse_assembly("\n".join(module_assembly(lines)))
    module.triple = machine.triple
    found: bytes = machine.emit_object(module)
    return found


class Listed(NamedTuple):
    """The assembly of a stencil: what usually runs, and the rest; by role the register that it was made for."""

    usual: list[str]
    apart: list[str]
    made_for: dict[int, str]


def stencil_assembly(numbers: Collection[int]) -> dict[tuple[int, str, int], Listed]:
    """The assembly of the stencils of some handlers, by number, variant and mask."""
    chosen = {number: handler for number, handler in candidates(HandlerSet()) if number in numbers}
    roles = {number: _looked_at(handler)[1] for number, handler in chosen.items()}
    found: dict[tuple[int, str, int], Listed] = {}
    lines: list[str] = []
    for line in parted(_optimised(module_text(chosen.items()), 2)):
        section = _SECTION.match(line)
        if section:
            variant, *key = section[1].split("_")
            number, mask = map(int, key)
            made_for = _registers(chosen[number], roles[number], mask)
            listed = found.setdefault((number, variant, mask), Listed([], [], made_for))
            lines = listed.usual if line.startswith(f".section {_HOT}.") else listed.apart
        elif line.startswith("\t.section"):
            lines = []  # constants
        elif not line.startswith("\t."):
            lines.append(line)
    return found


class _Reader:
    """Reads the parts of stencils from their object."""

    def __init__(self, data: bytes) -> None:
        self.object = ElfObject(data)
        self.constants = bytearray()
        #: number of a section with constants → where they are in `constants`
        self.constants_at: dict[int, int] = {}
        self.numbers = {section.name: number for number, section in enumerate(self.object.sections)}
        for number, section in enumerate(self.object.sections):
            if section.name.startswith(".rodata"):
                self.constants += bytes(-len(self.constants) % 16)
                self.constants_at[number] = len(self.constants)
                self.constants += self.object.content(section)
                if number in self.object.relocations:
                    raise ValueError(f"{section.name} has relocations")

    def stencil(self, name: str) -> Stencil | None:
        """The stencil of a name; None for one that refers to what code can't reach."""
        try:
            return Stencil(self._part(name, _HOT), self._part(name, _COLD))
        except LookupError:
            return None

    def code(self, name: str) -> bytes:
        """The bytes of both parts of a stencil."""
        numbers = [self.numbers.get(f"{part}.{name}") for part in (_HOT, _COLD)]
        sections = [self.object.sections[number] for number in numbers if number is not None]
        return b"".join(bytes(self.object.content(section)) for section in sections)

    def _part(self, name: str, part: str) -> Part:
        number = self.numbers.get(f"{part}.{name}")
        if number is None:
            return Part()
        code = bytearray(self.object.content(self.object.sections[number]))
        holes = []
        table = self.object.relocations.get(number)
        if table is not None:
            for at, info, addend in RELOCATION.iter_unpack(self.object.content(self.object.sections[table])):
                holes.append(self._hole(name, at, info & 0xFFFFFFFF, info >> 32, addend))
        return Part(bytes(code), tuple(holes))

    def _hole(self, name: str, at: int, kind: int, index: int, addend: int) -> Hole:
        relocation = relocations.KINDS[kind]
        wide = getattr(relocation.form, "size", 0) == SLOT_BYTES
        form = Form.RELATIVE if relocation.relative else Form.DOUBLE_WORD if wide else Form.WORD
        entry = ELF_SYMBOL.unpack_from(self.object.symbols, index * ELF_SYMBOL.size)
        string, _info, _other, section, value, _size = entry
        if section != SHN_UNDEF and section < SHN_LORESERVE:
            if section in self.constants_at:
                return Hole(at, form, What.CONSTANT, self.constants_at[section] + value + addend)
            what = {f"{_HOT}.{name}": What.HOT, f"{_COLD}.{name}": What.COLD}[self.object.sections[section].name]
            return Hole(at, form, what, value + addend)
        text = self.object.symbol_name(string)
        hole = symbol(text)
        if hole is not None:
            if hole.what == "number" and form == Form.RELATIVE:
                raise ValueError(f"{name} takes a number for an address")
            return Hole(
                at, form, What[hole.what.upper()], addend, hole.offset, hole.width, hole.signed, hole.scale, hole.small
            )
        what = What.EXTERNAL_SLOT if relocation.goal is Goal.SLOT else What.EXTERNAL_CODE
        try:
            return Hole(at, form, what, addend, EXTERNALS.index(text))
        except ValueError:
            raise LookupError(text) from None


class Stencils(NamedTuple):
    """All stencils: by (number of the handler, variant, mask of roles); the roles; what they read; the handlers.

    Those of a handler's masks follow the one without roles.
    """

    found: dict[tuple[int, str, int], Stencil]
    roles: dict[int, Roles]
    constants: bytes
    handlers: HandlerSet


def renamed(lines: Iterable[str], made_with: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The assembly of stencils with other registers: by the name of a stencil, what takes the place of what."""
    names: Mapping[str, str] = {}
    for line in lines:
        section = _SECTION.match(line)
        if section:
            names = made_with.get(section[1], {})
        yield pins.renamed(line, names) if names else line


_SECTION = re.compile(rf"\.section (?:{_HOT}|{_COLD})\.(\w+),")


def _registers(handler: Handler, roles: Roles, mask: int) -> dict[int, str]:
    """The registers of a stencil's roles, by the role's number."""
    if handler.name in PINS:
        return {0: PINS[handler.name]}
    return {number: role.register(number) for number, role in enumerate(roles.roles) if mask >> number & 1}


def stencils(level: int = 2) -> Stencils:
    """Make all stencils for the build machine, or what ``WASMLOOM_CPU`` names."""
    handlers = HandlerSet()
    chosen = list(candidates(handlers))
    lines = list(parted(_optimised(module_text(chosen), level)))
    reader = _Reader(assembled(lines, level))
    roles = {number: _looked_at(handler)[1] for number, handler in chosen}
    in_use = colliding(lines, roles)
    roles = {number: each._replace(roles=()) if number in in_use else each for number, each in roles.items()}
    found = {}
    made_with = {}
    for number, handler in chosen:
        for variant, mask in [("plain", mask) for mask in (0, *roles[number].masks())] + [("wide", 0), ("direct", 0)]:
            name = _name(number, variant, mask)
            if f"{_HOT}.{name}" in reader.numbers:
                stencil = reader.stencil(name)
                if stencil is not None:
                    found[number, variant, mask] = stencil
                    made_with[name] = _registers(handler, roles[number], mask)
    keeping = {_name(*key) for key in found if roles[key[0]].effect in KEEPING}
    _check_registers(lines, {name: names for name, names in made_with.items() if name in keeping})

    def made_for(names: Mapping[str, Mapping[int, str]]) -> _Reader:
        """Stencils with other registers: for each role that has another one, by the stencil's name."""
        changed = {
            name: {made_with[name][role]: register for role, register in others.items()}
            for name, others in names.items()
        }
        return _Reader(assembled(renamed(lines, changed), level))

    for role in range(MOST_ROLES):
        others = {name: {role: exchanged(names[role])} for name, names in made_with.items() if role in names}
        other = made_for(others)
        for key, stencil in found.items():
            name = _name(*key)
            if name in others:
                where = patches(stencil.code, role, made_with[name][role], other.code(name))
                found[key] = stencil._replace(where=(*stencil.where, *where))
    for turn in range(1, MOST_ALIKE):  # each role has each register once
        others = {name: {role: turned(each, turn) for role, each in names.items()} for name, names in made_with.items()}
        other = made_for(others)
        for key, stencil in found.items():
            name = _name(*key)
            wanted = {role: (each, others[name][role]) for role, each in made_with[name].items()}
            if patched(stencil.code, stencil.where, wanted) != other.code(name):
                raise ValueError(f"{name} for other registers isn't as patched")
    return Stencils(found, roles, bytes(reader.constants), handlers)


def colliding(lines: Iterable[str], roles: Mapping[int, Roles]) -> set[int]:
    """The handlers of stencils with roles that use registers of pins for something else.

    Where pins needn't be kept LLVM takes their registers as it likes. One that takes the place of a role's could then
    be written before it is read; so could one that is two roles', if it is for the first before it is for the second.
    """
    found: set[int] = set()
    expected: set[str] = set()
    number = mask = 0
    for line in lines:
        section = _SECTION.match(line)
        if section:
            _, number, mask = (int(part) if part.isdecimal() else 0 for part in section[1].split("_"))
            own = enumerate(roles[number].roles)
            expected = {role.register(place) for place, role in own if mask >> place & 1}
        elif mask and (pins.named(line) - expected or (len(expected) > 1 and pins.written(line))):
            found.add(number)
    return found


def _check_registers(lines: Iterable[str], made_with: Mapping[str, Mapping[int, str]]) -> None:
    """Raise ValueError where a stencil uses a register of pins that isn't one of its roles': it must stay as it is."""
    expected: set[str] = set()
    is_checked = False
    for line in lines:
        section = _SECTION.match(line)
        if section:
            is_checked = section[1] in made_with
            expected = set(made_with.get(section[1], {}).values())
        elif is_checked and pins.named(line) - expected:
            raise ValueError(f"a stencil uses a register of pins: {line.strip()}")


# --- tables ---

#: The copier reads so many bytes at a time, also behind the last stencil.
_SLACK = 64


def _packed_number(hole: Hole) -> bytes | None:
    """A hole as one of the numbers that are in most stencils, or None: it is another one."""
    narrow = hole.width == 2
    if hole.what != What.NUMBER or hole.form != Form.WORD or (narrow and hole.signed) or abs(hole.addend) >= 1 << 15:
        return None
    # What is read ends where the field does, or has the low half of it.
    return NUMBER.pack(hole.at, hole.addend, hole.offset - 2 * narrow, 16 * narrow, hole.scale)


def _packed_hole(hole: Hole) -> bytes:
    return HOLE.pack(
        hole.at, hole.form, hole.what, hole.addend, hole.offset, hole.width, hole.signed, hole.scale, hole.small, 0
    )  # fmt: skip


def _limits(holes: Sequence[Hole]) -> tuple[int, ...]:
    """Fields that must be small and those of 64 bits that must fit 32, as in `STENCIL`. Raises ValueError."""
    small = [hole for hole in holes if hole.what == What.NUMBER and hole.small]
    found: tuple[int, ...] = ()
    for is_signed in (False, True):
        offsets = sorted({hole.offset for hole in small if bool(hole.signed) is is_signed})
        widths = {hole.width for hole in small if bool(hole.signed) is is_signed}
        if len(offsets) > 2 or widths - {SLOT_BYTES if is_signed else SLOT_BYTES // 2}:
            raise ValueError("a stencil has more limits than the copier looks at")
        found += (*offsets, *(0 for _ in range(2 - len(offsets))))
    return found


def _led_to(handler: Handler, holes: Sequence[Hole]) -> int:
    """The `Leads` of a stencil. Raises ValueError."""
    targets = {hole.offset for hole in holes if hole.what == What.TARGET}
    if targets - {field.offset for field in handler.shape.fields if field.kind == "target"} or len(targets) > 1:
        raise ValueError(f"{handler.name} has other targets than the copier knows")
    behind = {hole.offset for hole in holes if hole.what == What.PLACE and hole.offset >= handler.shape.size}
    is_behind = bool(behind) and not handler.shape.has_array  # what has one ends further behind
    return Leads.BEHIND * is_behind | Leads.TO_TARGET * bool(targets)


def _bytes(name: str, data: bytes) -> str:
    text = "".join(f"\\{byte:02X}" for byte in data)
    return f'@{name} = hidden constant [{len(data)} x i8] c"{text}", align 16'


def _shorts(name: str, numbers: Sequence[int]) -> str:
    return _bytes(name, struct.pack(f"<{len(numbers)}h", *numbers))


def tables_text(made: Stencils) -> str:
    """The LLVM IR of the object."""
    code, table, numbers, holes, pinnings, where = (bytearray() for _ in range(6))
    variants: list[int] = [-1] * (len(VARIANTS) * (len(made.handlers.handlers) + len(EXTRA)))
    named = dict(candidates(made.handlers))
    for position, ((number, variant, mask), stencil) in enumerate(made.found.items()):
        if not mask:
            variants[len(VARIANTS) * number + VARIANTS.index(variant)] = position
        handler, roles = named[number], made.roles[number]
        packed = [_packed_number(hole) for hole in stencil.hot.holes]
        usual = [each for each in packed if each is not None]
        rest = [hole for hole, each in zip(stencil.hot.holes, packed, strict=True) if each is None]
        both = (*stencil.hot.holes, *stencil.cold.holes)
        table += STENCIL.pack(
            len(code), len(stencil.hot.code), len(stencil.cold.code),
            len(numbers) // NUMBER.size, len(holes) // HOLE.size, len(where) // 2,
            len(usual), len(rest), len(stencil.cold.holes), len(stencil.where),
            _led_to(handler, both), *_limits(both),
        )  # fmt: skip
        has_masks = variant == "plain" and not mask
        made_with = _registers(handler, roles, mask or (1 << len(roles.roles)) - 1)
        known = roles if has_masks else Roles(effect=roles.effect)
        pinnings += pinning(handler.shape, known, made_with)
        where += b"".join(struct.pack("<H", patch.packed) for patch in stencil.where)
        code += stencil.code
        numbers += b"".join(usual)
        holes += b"".join(map(_packed_hole, (*rest, *stencil.cold.holes)))
    code += bytes(_SLACK)
    parts = {number: pair for pair, number in made.handlers.fused.items()}
    for first, _second in parts.values():
        if made.handlers.handlers[first].shape.size == SLOT_BYTES:
            raise ValueError("both parts of a fused instruction begin at the same place")
    arrays = {"targets": Array.TARGETS, "clauses": Array.CLAUSES}
    leads = []
    for handler in made.handlers.handlers:
        targets = [field.offset for field in handler.shape.fields if field.kind == "target"]
        ends = [arrays[field.name] for field in handler.shape.fields if field.kind == "array"]
        leads += [targets[0] if targets else 0, ends[0] if ends else Array.NOTHING]
    lines = [
        _bytes("wl_stencil_code", bytes(code)),
        _bytes("wl_stencils", bytes(table)),
        _bytes("wl_stencil_numbers", bytes(numbers)),
        _bytes("wl_stencil_holes", bytes(holes)),
        _bytes("wl_pinnings", bytes(pinnings)),
        _bytes("wl_patches", bytes(where)),
        _bytes("wl_stencil_constants", made.constants),
        _shorts("wl_stencil_variants", variants),
        _shorts(
            "wl_instruction_parts",
            [part for number in range(len(made.handlers.handlers)) for part in parts.get(number, (number, -1))],
        ),
        _shorts("wl_instruction_leads", leads),
        f"@wl_stencil_constants_size = hidden constant i64 {len(made.constants)}",
    ]
    return "\n".join(lines) + "\n"


def build_object(path: Path) -> None:
    """Make the stencils and write the object file."""
    level = int(os.environ.get("WASMLOOM_OPT", "O2").lstrip("O"))
    binding, machine = _machine(level)
    module = binding.parse_assembly(tables_text(stencils(level)))
    module.triple = machine.triple
    path.write_bytes(machine.emit_object(module))
