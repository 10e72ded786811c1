"""Which units (heads, neurons) matter to the dense reference: measured once, read by every trial.

The importance depends on the reference and on the batches that are read, but not on how much a
trial removes, nor on its loss. Measuring it anew in every trial cost more than training a short
trial.
"""

from __future__ import annotations

import json
from pathlib import Path

from rc_core import plugins
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.compression._base import CompressionContext
from rc_core.compression._importance import UnitsConfig
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.models import load_model
from rc_core.teacher import teacher, teacher_key
from rc_core.training import batches
from rc_core.workspace import Workspace

# 2: uses the reference's tokens, whatever the trial's max_length is.
IMPORTANCE_VERSION = 2


def has_importance(config: TrialConfig) -> bool:
    """Tell whether the configuration's compression chooses units by importance."""
    return isinstance(config.compression, UnitsConfig)


def importance_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the importance of a compression's units in the dense reference.

    The text of the plugin's file is part of the key, so editing it measures anew. Code that the
    file imports from outside its package is not; raise the version when such code changes.
    """
    assert isinstance(config.compression, UnitsConfig)
    inputs = {
        "teacher": teacher_key(config, workspace).key,
        "units": config.compression.name,
        "source": plugins.digest(PLUGIN_PACKAGES["compression"], config.compression.name),
        "num_batches": config.compression.num_batches,
        "batch_size": config.training.batch_size,
        "seed": config.training.seed,
    }
    return ArtifactKey("importance", IMPORTANCE_VERSION, inputs)


def importance_artifact(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the artifact, measuring the importance if it is not stored yet.

    Raises:
        TrialError: a gradient is not finite.
    """

    def build(folder: Path) -> None:
        # The reference's tokens, because the trial's own max_length is not in the key.
        data = workspace.data(config.reference())
        model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
        context = CompressionContext(
            batches=lambda: batches(
                data.encoded(data.task.train), config.training, workspace.device
            ),
            device=workspace.device,
        )
        assert isinstance(config.compression, UnitsConfig)
        plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
        found = plugin.importance(model, context, num_batches=config.compression.num_batches)
        (folder / "importance.json").write_text(json.dumps(found))

    return workspace.store.build(importance_key(config, workspace), build)


def importance(config: TrialConfig, workspace: Workspace) -> list[list[float]]:
    """Return the importance of every unit, per layer."""
    path = importance_artifact(config, workspace).path / "importance.json"
    found: list[list[float]] = json.loads(path.read_text())
    return found
