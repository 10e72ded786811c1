"""Training losses. One file is one loss: a pure formula, and a class `Loss` that applies it."""
