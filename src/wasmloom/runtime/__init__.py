"""What guest code stands on at run time.

Reading order: `layout` (the structs that generated code and runtime share) and `traps`; `store` (who owns them, and the
way into guest code); `regions` (the address space of memories), `faults` (guest faults become traps), `guests`
(contexts and the ticker that interrupts them) and `calls` (what handlers leave to the runtime).
"""
