"""Schedulers, which stop trials early. One file is one: `build(objectives, seed)`."""
