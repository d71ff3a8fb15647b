"""Tiers: in which form guest code runs, and how it gets from one form to another.

Reading order: `policy` (when a store changes over), `background` (who compiles meanwhile), `stores` (what a store's
functions run as), `change` (how what runs goes on), `backtraces` (frames of all tiers, seen from outside).
"""
