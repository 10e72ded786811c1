"""What the compressions that remove whole units have in common."""

from __future__ import annotations

from types import ModuleType

import pytest

from rc_core.compression import ffn, heads
from rc_core.schema import validate_section
from tests.contracts._tiny import tiny_context, tiny_model


@pytest.mark.parametrize("plugin", [ffn, heads])
@pytest.mark.parametrize("frozen", [True, False])
def test_embeddings_are_trained_only_where_that_is_asked_for(
    plugin: ModuleType, frozen: bool
) -> None:
    name = plugin.__name__.rpartition(".")[2]
    values = {"name": name, "num_batches": 2, "remove": 0.25}
    config = validate_section(
        plugin.Config, values if frozen else values | {"freeze_embeddings": False}
    )
    model = plugin.Compression(config).prepare(tiny_model("bert"), tiny_context())
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    embeddings = {name for name in everything if ".embeddings." in name}
    assert embeddings and trained == (everything - embeddings if frozen else everything)
