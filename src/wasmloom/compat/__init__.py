"""Look-alikes of other engines' Python packages, for programs that were written for them."""
