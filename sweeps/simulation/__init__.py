"""Replays a finished sweep under other searches and schedulers, without training."""
