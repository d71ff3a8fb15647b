"""Programs that switch stacks."""
