"""The text format (Core 3.0, chapter 6): modules and test scripts.

There are three entry points: `parser.parse_module` assembles a module, `printer.print_module` disassembles one, and
`script.parse_script` reads a test script.

From text to binary: `lexer` makes tokens, `literals` reads numbers and strings. The parser is one class in layers, each
the base of the next: `cursor` (a place among the tokens), `annotations`, `types`, `immediates` (what follows an
instruction's keyword), `expressions` (flat and folded sequences of instructions) and `fields` (a module).

From binary to text: `formatting` writes types, names and numbers, `disassembly` expressions, `printer` a module.
"""
