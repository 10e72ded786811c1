"""Tasks: splits with roles. One file is one task; `load(config)` returns a `Task`."""
