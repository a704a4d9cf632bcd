"""The one error that commands show without a traceback."""


class InputError(ValueError):
    """An error that the user can fix; the message names the item and the remedy."""
