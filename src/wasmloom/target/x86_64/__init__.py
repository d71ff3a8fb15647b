"""x86-64: System V ABI, ELF, Linux with glibc."""
