"""Snapshots: the state of a store's instances as a value, which can be copied, kept and moved.

`taking` reads a store, `restoring` makes one, `format` turns what is between them into bytes and back, and `snapshot`
has the public names. What a snapshot holds is what the specification says that a store is (Core 3.0, 4.2), and nothing
of this process: functions are numbers, modules their hash, imports of the host their names.
"""
