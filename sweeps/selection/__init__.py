"""Which configuration to believe: choosing, new seeds, the sealed test, and their statistics."""
