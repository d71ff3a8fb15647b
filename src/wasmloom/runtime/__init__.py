"""What guest code stands on at run time.

Reading order: `store` (who owns what guests have, and the way into guest code); `regions` (the address space of
memories), `faults` (guest faults become traps), `guests` (contexts and the ticker that interrupts them) and `calls`
(what handlers leave to the runtime). The structs that it shares with generated code are in `wasmloom.contract`.
"""
