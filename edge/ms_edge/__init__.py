"""ms-edge tells speech from music."""

__version__ = "0.1.0"
