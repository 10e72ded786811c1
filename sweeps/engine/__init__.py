"""The driver: what runs next, on Ray, from the preparation to the last record."""
