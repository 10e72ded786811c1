"""The sweep: search with Ray Tune and Optuna, tracking with MLflow, the Pareto front, export.

import sweeps
sweep = sweeps.launch("tune_configs/quickstart.yaml", overrides=["search.trials=8"])
sweep.front                     # records on the front
sweep.confirm(seeds=5)          # new seeds for rows whose rank may be due to noise
sweep.export("knee", "exported/")
sweeps.Sweep.load("rc_storage/quickstart-1")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import Sweep
    from sweeps.launching import launch, resume

__all__ = ["Sweep", "launch", "resume"]


def __getattr__(name: str) -> Any:
    # Ray takes seconds to import; `import sweeps` alone stays quick.
    if name in ("launch", "resume"):
        from sweeps import launching

        return getattr(launching, name)
    if name == "Sweep":
        from sweeps.api import Sweep

        return Sweep
    raise AttributeError(f"module 'sweeps' has no attribute '{name}'")
