"""Choosing a configuration: picks, results on new seeds and the sealed test, statistics."""
