"""Tests of service_scaffold.transports."""
