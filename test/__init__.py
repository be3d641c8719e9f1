"""Tests; they mirror the package, brokers/ has the brokers they talk to."""
