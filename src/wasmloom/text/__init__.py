"""The text format (Core 3.0, chapter 6): modules and test scripts.

`parser.parse_module` assembles a module, `script.parse_script` reads a test script, and `printer.print_module`
disassembles. `lexer` and `literals` are what they stand on; `cursor`, `types`, `instructions` and `fields` are the
parser, from tokens up to a module's fields.
"""
