"""The science: compression, losses, difficulty, training and evaluation of one trial.

Knows nothing of Ray, MLflow or Optuna and runs by itself: `python -m rc_core.trial LIST.jsonl`.
"""

__version__ = "0.1.0"
