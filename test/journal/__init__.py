"""Tests of service_scaffold.journal."""
