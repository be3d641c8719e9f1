"""One suite, one file a transport."""
