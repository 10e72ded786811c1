"""Whether an encoder is built as compressions expect, checked before its weights are read."""

from __future__ import annotations

from rc_core.errors import ModelError
from rc_core.model_facts import config_folder, model_kind

# Tested in tests/rc_core/test_layout.py; for these `check_layout` needs no torch and no time.
KNOWN = (
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)


def check_layout(spec: str, model_type: str) -> None:
    """Check that an encoder keeps its blocks and embeddings where compressions look for them.

    For other families, an encoder is made from its config.json without memory for weights.

    Args:
        spec: names a model, see `rc_core.model_facts`.
        model_type: from its config.json.

    Raises:
        ModelError: it does not, or transformers makes no sequence classifier from its config.
    """
    kind, name = model_kind(spec)
    if kind == "tiny" or model_type in KNOWN:
        return
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from rc_core.compression._layers import blocks, embeddings

    try:
        config = AutoConfig.from_pretrained(config_folder(spec))
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    # A family's own code may raise anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model '{name}' must be an encoder from which transformers can make a sequence "
            f"classifier, but it is of '{model_type}': {reason}"
        ) from error
    try:
        blocks(model)
        embeddings(model)
    except ModelError as error:
        raise ModelError(f"'{name}' ('{model_type}'): {error}") from error
