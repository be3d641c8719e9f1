"""Brokers that are killed, cut off and gone silent; services that are stopped and killed."""
