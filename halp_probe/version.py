"""Version of the package, which its metadata take from here."""

__version__ = "0.9.0"
