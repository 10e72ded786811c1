"""Storages at a URI, each kept in step with a folder on this machine."""
