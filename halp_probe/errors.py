"""The one error that commands show without a traceback."""


class InputError(ValueError):
    """An error that the user can fix; the message names the item and the remedy.

    Parameters stand between backticks in it; the command line shows its flags in their place.

    Examples
    --------
    >>> import halp_probe
    >>> try:
    ...     halp_probe.open_shards("nowhere")
    ... except halp_probe.InputError as error:
    ...     print(error)
    nowhere does not exist; pass a shard file or the `output_dir` of an extraction
    """
