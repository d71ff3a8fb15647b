"""The binary format (Core 3.0, chapter 5): bytes → module (`decoder`), module → bytes (`encoder`), instructions (`reader`)."""
