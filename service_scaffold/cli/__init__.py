"""`service-scaffold`: what one asks of a running system from a terminal."""
