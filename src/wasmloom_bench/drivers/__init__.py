"""The processes that `remote` talks to: one module each, driven by lines of JSON."""
