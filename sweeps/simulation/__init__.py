"""A finished sweep replayed under other searches and schedulers; trains nothing."""
