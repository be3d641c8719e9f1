"""Keeps the readings of sensors, and tells when one passes its limit."""

__version__ = '0.1.0'
