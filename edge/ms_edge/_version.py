"""The version of all three packages, and nothing else: whoever needs it may import this module."""

__version__ = "0.1.0"
