"""Collects the files that remote systems make for a web shop."""

__version__ = "0.1.0"
