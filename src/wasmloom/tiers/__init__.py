"""Tiers: which form guest code runs in, and how it changes from one form to the other.

Reading order: `policy` (when a store changes over), `background` (who compiles meanwhile), `stores` (what a store's
functions run as), `change` (how running code goes on), `backtraces` (frames of all tiers, seen from outside).
"""
