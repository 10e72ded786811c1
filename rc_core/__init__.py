"""The science: compression, losses, difficulty, training and evaluation of one trial.

Knows nothing of Ray, MLflow or Optuna and runs by itself: `python -m rc_core.trial LIST.jsonl`.
"""

import os

# Before torch loads OpenMP: by default its threads spin while they wait for each other. On a
# machine that does anything else (the other trials of a sweep) that made training 100 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
