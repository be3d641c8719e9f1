"""Codecs: bytes to values and back, chosen by content type."""

from __future__ import annotations

from service_scaffold.codecs.base import BINARY, JSON, TEXT, Codec, essence, lookup, register
from service_scaffold.codecs.builtin import check_finite
from service_scaffold.codecs.typed import Decoder, decode, encode

__all__ = [
    'BINARY',
    'JSON',
    'TEXT',
    'Codec',
    'Decoder',
    'check_finite',
    'decode',
    'encode',
    'essence',
    'lookup',
    'register',
]
