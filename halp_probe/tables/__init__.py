"""Tables of every common form, read record by record: the values as they are written, and where they stand."""
