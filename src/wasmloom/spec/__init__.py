"""What WebAssembly says, as data: types, the instruction table, the abstract syntax of modules, limits."""
