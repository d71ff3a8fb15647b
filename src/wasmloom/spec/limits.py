"""Implementation limits: the numbers that a module may not exceed (Core 3.0, appendix A.2).

The figures are those that the JavaScript interface fixes for the web, so what runs in a browser runs here.
"""

MAX_MODULE_BYTES = 1 << 30
MAX_TYPES = 1_000_000
MAX_FUNCTIONS = 1_000_000
MAX_IMPORTS = 1_000_000
MAX_EXPORTS = 1_000_000
MAX_GLOBALS = 1_000_000
MAX_TAGS = 1_000_000
MAX_DATA_SEGMENTS = 100_000
MAX_ELEMENT_SEGMENTS = 10_000_000
MAX_TABLES = 100_000
MAX_MEMORIES = 100
MAX_PARAMS = 1_000
MAX_RESULTS = 1_000
MAX_FUNCTION_BYTES = 7_654_321
MAX_LOCALS = 50_000
MAX_TABLE_ELEMENTS = 10_000_000
MAX_STRUCT_FIELDS = 10_000
MAX_ARRAY_FIXED = 10_000
MAX_SUBTYPING_DEPTH = 63
MAX_BR_TABLE = 65_520
#: Of a `try_table`, and handlers of a `resume`: the web names no limit, other engines have this one.
MAX_CLAUSES = 10_000

PAGE_BITS = 16
PAGE_SIZE = 1 << PAGE_BITS


def most_pages(is64: bool, page_bits: int) -> int:
    """The largest number of pages, of 2**page_bits bytes each, in the type of a memory with addresses of 64 or 32 bits.

    Addresses reach no further, and the number itself is an address.
    """
    bits = 64 if is64 else 32
    return min(1 << bits >> page_bits, (1 << bits) - 1)
