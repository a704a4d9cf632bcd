"""Version of the package, as its metadata have it."""

__version__ = "0.6.0"
