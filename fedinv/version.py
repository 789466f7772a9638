"""The version of fedinv, apart from the package itself, whose names lead to everything."""

__version__ = "0.1.0"
