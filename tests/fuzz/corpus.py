"""What hostile input is made of: the modules of the official scripts, and a few that use much in little space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wasmloom.errors import CompileError
from wasmloom.text import script
from wasmloom.text.parser import parse_module

OWN = (
    """(module
      (type $binary (func (param i32 i32) (result i32)))
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1 4) (table $t 8 funcref) (global $g (mut i64) (i64.const 5))
      (data (i32.const 16) "hello") (data $passive "world") (elem (i32.const 0) $add $add) (elem $e func $add)
      (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
      (func (export "bulk") (param i32)
        (memory.init $passive (local.get 0) (i32.const 0) (i32.const 5)) (data.drop $passive)
        (memory.copy (i32.const 100) (local.get 0) (i32.const 64))
        (memory.fill (local.get 0) (i32.const 7) (i32.const 9))
        (table.init $t $e (i32.const 3) (i32.const 0) (i32.const 1)) (elem.drop $e)
        (table.copy (i32.const 4) (i32.const 0) (i32.const 2)) (drop (memory.grow (i32.const 1))))
      (func (export "calls") (param i32) (result i32)
        (call_indirect (type $binary) (call $f (local.get 0)) (i32.const 3) (local.get 0)))
      (func (export "deep") (param i32) (result i32)
        (i32.add (i32.const 1) (call 4 (i32.sub (local.get 0) (i32.const 1))))))""",
    """(module
      (func (export "sum") (param $n i32) (result i32 i64) (local $s i64)
        (block $out (loop $again
          (br_if $out (i32.eqz (local.get $n)))
          (local.set $s (i64.add (local.get $s) (i64.extend_i32_s (local.get $n))))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $again)))
        (local.get $n) (local.get $s))
      (func (export "switch") (param i32) (result f64)
        (block (block (block (block (br_table 0 1 2 3 (local.get 0))) (return (f64.const 1))) (return (f64.const 2))))
        (select (f64.sqrt (f64.convert_i32_s (local.get 0))) (f64.const -0) (i32.lt_u (local.get 0) (i32.const 9))))
      (func $tail (export "tail") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
          (then (i32.const 7)) (else (return_call $tail (i32.sub (local.get 0) (i32.const 1)))))))""",
    """(module
      (type $f (func (param i64) (result i64)))
      (memory $a 1) (memory $b 1)
      (func $id (type $f) (local.get 0)) (elem declare func $id)
      (global (export "ref") (ref $f) (ref.func $id))
      (func (export "by_ref") (param (ref null $f) i64) (result i64)
        (block $null (return (call_ref $f (local.get 1) (br_on_null $null (local.get 0))))) (i64.const -1))
      (func (export "both") (param i32) (result i32)
        (i32.store8 $b (local.get 0) (i32.load16_s $a offset=3 (local.get 0)))
        (i32.trunc_sat_f32_u (f32.reinterpret_i32 (i32.load $b (local.get 0))))))""",
    """(module
      (type $body (func (param i32) (result i32))) (type $k (cont $body))
      (type $pure (func)) (type $kpure (cont $pure))
      (tag $yield (param i32) (result i32)) (tag $stop (result i32)) (tag $fail (param i64))
      (table $parked 4 (ref null $k)) (elem declare func $work $thrower)
      (func $work (type $body)
        (loop $again (result i32)
          (local.set 0 (suspend $yield (i32.add (local.get 0) (i32.const 1))))
          (br_if $again (local.get 0) (i32.lt_s (local.get 0) (i32.const 5)))))
      (func $thrower (type $body) (drop (suspend $stop)) (throw $fail (i64.const 3)))
      (func $drive (export "drive") (param (ref null $k) i32) (result i32)
        (block $stopped (result (ref $k))
          (block $yielded (result i32 (ref $k))
            (return (resume $k (on $yield $yielded) (on $stop $stopped) (local.get 1) (local.get 0))))
          (local.set 0) (local.set 1)
          (return (call $drive (local.get 0) (local.get 1))))
        (local.set 0) (i32.const -1))
      (func (export "count") (param i32) (result i32)
        (call $drive (cont.new $k (ref.func $work)) (local.get 0)))
      (func (export "catch") (param i32) (result i64)
        (block $caught (result i64)
          (try_table (catch $fail $caught)
            (drop (call $drive (cont.new $k (ref.func $thrower)) (local.get 0)))
            (throw $fail (i64.const 9)))
          (unreachable)))
      (func (export "park") (param i32)
        (table.set $parked (local.get 0) (cont.new $k (ref.func $work)))
        (drop (call $drive (table.get $parked (local.get 0)) (local.get 0)))
        (drop (call $drive (table.get $parked (local.get 0)) (local.get 0)))))""",
)


def own_modules() -> list[bytes]:
    """The modules of this file."""
    return [parse_module(text).binary for text in OWN]


def script_modules(folder: Path) -> list[bytes]:
    """Every module of the scripts below `folder` that can be assembled and isn't malformed on purpose, each once."""
    found: dict[bytes, None] = {}
    for path in sorted(folder.rglob("*.wast")):
        try:
            commands = script.parse_script(path.read_bytes())
        except CompileError:
            continue
        for command in commands:
            for source in sources(command):
                try:
                    found[source.to_binary()] = None
                except CompileError:
                    continue
    return [module for module in found if len(module) > 8]


def sources(command: script.Command) -> Iterator[script.ModuleSource]:
    """The modules in a command."""
    for part in () if isinstance(command, script.AssertMalformed) else command:
        if isinstance(part, script.ModuleSource):
            yield part
