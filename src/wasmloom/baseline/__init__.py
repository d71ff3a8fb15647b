"""The baseline tier: machine code made by copying *stencils*, which are the interpreter's handlers with holes."""
