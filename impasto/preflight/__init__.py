"""What can be known of a run before it starts: what it will do, what it takes, what is probably not meant. No torch."""
