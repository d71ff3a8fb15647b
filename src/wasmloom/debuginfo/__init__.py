"""What compilers have written into a module for debuggers: DWARF (version 2 to 5) in custom sections.

It says which source line, and which inlined function, an offset in the code comes from. `source` answers that, for
backtraces and profiles; `units` and `lines` read the sections, `cursor` their bytes. Everything here reads what
strangers have written: work and memory are proportional to the sections, whatever they claim.

Source: DWARF 5; for WebAssembly https://yurydelendik.github.io/webassembly-dwarf/ (addresses are offsets from the
beginning of the code section's contents).
"""
