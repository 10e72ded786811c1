"""Compressions. One file is one compression: `Config` and a class `Compression`."""
