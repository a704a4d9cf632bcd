"""Error of this package."""

from halp_probe.errors import InputError


class ProbeError(InputError):
    """Error for data or a file that no honest probe can be made from; the message says what is wrong and what to do."""
