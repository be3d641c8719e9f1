"""The soak: services at work for a long time, a fault every minute, and what was promised."""
