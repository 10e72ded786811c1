"""Which configuration to believe: choosing, what new seeds and the sealed test said, statistics."""
