"""Tables: mappings that survive, one partition for each partition of the topics that write them."""
