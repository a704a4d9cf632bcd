"""The one error that commands show without a traceback."""


class InputError(ValueError):
    """Something the user can mend; the message names the item and the remedy."""
