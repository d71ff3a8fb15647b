"""What guest code stands on at run time.

Reading order: `store` (owns everything that guests have), `entries` (the way into guest code), `regions` (the address
space of memories), `faults` (guest faults become traps), `guests` (contexts, and the ticker that interrupts them) and
`runtime_calls` (functions that generated code calls). The structs that it shares with generated code are in
`wasmloom.contract`.
"""
