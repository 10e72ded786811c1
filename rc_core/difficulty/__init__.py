"""Sample difficulty. One file is one way to estimate it: `Config` and pure functions."""
