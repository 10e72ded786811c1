"""Loading, making and saving encoders with a classification head.

Everything is float32 in memory and on disk; lower precision is autocast, per step, in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES
from rc_core.errors import ModelError
from rc_core.model_facts import TINY_HEADS, TINY_LAYERS, check_folder, locate, model_kind

# 2: for any compression, by its name; version 1 was for heads only.
STRUCTURE_VERSION = 2
_STRUCTURE = "structure.json"

# transformers' report of new head weights would be printed on every load, where it is expected.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def load_encoder(spec: str, *, label_names: Sequence[str], seed: int) -> nn.Module:
    """Return an encoder with a freshly initialised classification head, in float32 on the CPU.

    Args:
        spec: `packaged:NAME`, `tiny:ARCHITECTURE`, a folder or a hub id.
        label_names: the C labels, in output order; stored as `id2label` in the model's config.
        seed: for the random weights of the head (and of a tiny encoder).

    Raises:
        ModelError: see `rc_core.model_facts.locate`; or the folder is not a sequence classifier, or
            does not hold all weights of its encoder.
    """
    kind, name = model_kind(spec)
    labels = {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {label: i for i, label in enumerate(label_names)},
    }
    torch.manual_seed(seed)
    if kind == "tiny":
        return _tiny_model(name, labels)
    folder = locate(spec)
    if (folder / _STRUCTURE).is_file():
        raise ModelError(
            f"{folder} must be a stock encoder, but a compression changed its structure; use the "
            "folder that rc-sweep export writes"
        )
    # A fine-tuned folder may contain a head, of the right size or of another one.
    model, missing, other_size = _from_pretrained(folder, **labels, ignore_mismatched_sizes=True)
    _check_encoder(model, missing | other_size, folder)
    _renew_head(model, missing, seed)
    return model


def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """Return a model's fast tokenizer; it makes segment ids only if the encoder reads them.

    Raises:
        ModelError: there is none.
    """
    kind, name = model_kind(spec)
    if kind == "tiny":
        return _tiny_tokenizer(token_types=name in ("bert", "electra"))
    folder = locate(spec, weights=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} must hold a tokenizer, but none loads: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} must have a fast tokenizer (tokenizer.json), but has none")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # For a folder without tokenizer files, transformers makes one that knows no words at all.
        raise ModelError(
            f"{folder} must hold its tokenizer (tokenizer.json or a vocabulary), but what loads "
            "knows special tokens only; save the tokenizer beside the model"
        )
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return _without_segments(tokenizer, folder)


def _without_segments(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """Stop a tokenizer from making segment ids if its encoder has at most one segment.

    A BERT tokenizer may stand beside a RoBERTa, which has no embedding for a second segment.
    """
    names = [each for each in tokenizer.model_input_names if each != "token_type_ids"]
    if len(names) == len(tokenizer.model_input_names):
        return tokenizer
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    # AutoConfig fills in the family's default if config.json leaves it out; DistilBERT has none.
    if getattr(config, "type_vocab_size", 0) <= 1:
        tokenizer.model_input_names = names
        # These are saved with a trial, and so exported.
        tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def save_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    compression: str | None = None,
) -> None:
    """Write weights (safetensors), config and tokenizer, as plain transformers reads them.

    Args:
        model: of transformers.
        tokenizer: its own.
        folder: created if it is missing.
        compression: the plugin that made the model; None for a stock model. What its `structure`
            returns, if it has one, is written to structure.json, which only `load_model` reads.

    Raises:
        ModelError: the structure is not plain JSON.
    """
    assert isinstance(model, PreTrainedModel)
    manifest = None if compression is None else _manifest(model, compression)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / _STRUCTURE).unlink(missing_ok=True)
    if manifest is not None:
        (folder / _STRUCTURE).write_text(manifest)
    tokenizer.save_pretrained(folder)


def load_model(folder: Path) -> nn.Module:
    """Return a model written by `save_model`, in float32 on the CPU. Raises ModelError."""
    check_folder(folder)
    if (folder / _STRUCTURE).is_file():
        return _from_structure(folder)
    model, missing, _ = _from_pretrained(folder)
    if missing:
        raise ModelError(
            f"{folder} must hold all weights of its model, but lacks {_some(missing)}; it was not "
            "written completely"
        )
    return model


def _manifest(model: nn.Module, compression: str) -> str | None:
    """Return the text of structure.json; None if the compression leaves a stock model."""
    plugin = plugins.load(PLUGIN_PACKAGES["compression"], compression)
    if not hasattr(plugin, "structure"):
        return None
    manifest = {"schema_version": STRUCTURE_VERSION, "compression": compression}
    try:
        return json.dumps({**manifest, "structure": plugin.structure(model)}, indent=1) + "\n"
    except TypeError as error:
        raise ModelError(
            f"rc_core/compression/{compression}.py: structure() must return plain JSON values, but "
            f"{error}"
        ) from error


def _from_structure(folder: Path) -> nn.Module:
    """Make the stock architecture, restore its structure, and load the weights strictly."""
    path = folder / _STRUCTURE
    compression, structure = _read_manifest(path)
    try:
        plugin = plugins.load(PLUGIN_PACKAGES["compression"], compression)
        config = AutoConfig.from_pretrained(folder)
        model: nn.Module = AutoModelForSequenceClassification.from_config(config)
        model = plugin.restore(model, structure)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    # The plugin's code may raise anything; the message must name the folder.
    except Exception as error:
        raise ModelError(
            f"{folder} cannot be loaded with the structure in {path.name}, which "
            f"rc_core/compression/{compression}.py gave it: {error}"
        ) from error
    return model.float().eval()


def _read_manifest(path: Path) -> tuple[str, Any]:
    """Return the compression that gave a folder's model its structure, and the structure."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        if version == 1:
            return "heads", {"kept_heads": manifest["kept_heads"]}
        if version == STRUCTURE_VERSION:
            return manifest["compression"], manifest["structure"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} must say which structure the model has, but cannot be read: {error}"
        ) from error
    raise ModelError(
        f"{path} must have schema_version 1 or {STRUCTURE_VERSION}, but has {version!r}; read it "
        "with the version that wrote it"
    )


def _from_pretrained(folder: Path, **options: Any) -> tuple[PreTrainedModel, set[str], set[str]]:
    """Return the model, and the names of weights that are missing or of another size in the folder.

    Such weights are random, and transformers would only warn.
    """
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **options
        )
    except SafetensorError as error:
        raise ModelError(
            f"{folder} must hold complete weights, but its safetensors cannot be read ({error}), "
            "usually because of a full disk or an interrupted download; fetch it again"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder} cannot be loaded as a sequence classifier: {error}") from error
    assert isinstance(model, PreTrainedModel)
    # An entry of `mismatched_keys` is a name and both shapes.
    return model, set(loading["missing_keys"]), {key for key, *_ in loading["mismatched_keys"]}


def _check_encoder(model: PreTrainedModel, untrained: set[str], folder: Path) -> None:
    """Raise ModelError if weights of the encoder are random: training would start from those.

    A pooler may be new: checkpoints of masked language models have none.
    """
    prefix = f"{model.base_model_prefix}."
    lost = {
        name
        for name in untrained & {name for name, _ in model.named_parameters()}
        if name.startswith(prefix) and not name.startswith(f"{prefix}pooler.")
    }
    if lost:
        raise ModelError(
            f"{folder} must hold all weights of the encoder that its config.json describes, but "
            f"{len(lost)} are missing or of another size: {_some(lost)}; give a folder in which "
            "both belong together, with weights named as transformers saves them"
        )


def _some(names: set[str]) -> str:
    """Return a few names, and how many more there are."""
    first = sorted(names)[:3]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _renew_head(model: PreTrainedModel, missing: set[str], seed: int) -> None:
    """Initialise a head that was fine-tuned before: its labels may be in another order.

    The head is everything outside the encoder (BERT's pooler is inside, DistilBERT's pre_classifier
    is not). It gets the same random values as the head of a folder that has none. If the folder
    lacks one of its weights, the classifier was never fine-tuned; the rest of the head was then
    pretrained with the encoder (ModernBERT's `head`), and is kept.
    """
    encoder = f"{model.base_model_prefix}."
    head = {name: p for name, p in model.named_parameters() if not name.startswith(encoder)}
    if head.keys() & missing:
        return
    for parameter in head.values():
        # transformers marks loaded parameters this way, and does not initialise them.
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    for module in _children_first(model, besides=model.base_model):
        model._init_weights(module)


def _children_first(module: nn.Module, *, besides: nn.Module) -> Iterator[nn.Module]:
    """Yield a module's children, then itself: the order in which transformers initialises them."""
    for child in module.children():
        if child is not besides:
            yield from _children_first(child, besides=besides)
    yield module


def _tiny_model(architecture: str, labels: dict[str, Any]) -> nn.Module:
    """Return a tiny encoder with random weights, for tests."""
    tokenizer = _tiny_tokenizer(token_types=True)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    if architecture == "distilbert":
        shape |= {"dim": 32, "n_layers": TINY_LAYERS, "n_heads": TINY_HEADS, "hidden_dim": 64}
        shape |= {"max_position_embeddings": 128}
    else:
        shape |= {
            "hidden_size": 32,
            "num_hidden_layers": TINY_LAYERS,
            "num_attention_heads": TINY_HEADS,
        }
        # RoBERTa's positions start after its padding index.
        shape |= {"intermediate_size": 64, "max_position_embeddings": 130}
        shape |= {"embedding_size": 32} if architecture == "electra" else {}
        if architecture == "modernbert":
            first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
            shape |= {"bos_token_id": first, "cls_token_id": first}
            shape |= {"eos_token_id": last, "sep_token_id": last}
        shape |= {"type_vocab_size": 1 if architecture == "roberta" else 2}
    config = AutoConfig.for_model(architecture, **shape, **labels)
    model = AutoModelForSequenceClassification.from_config(config)
    assert isinstance(model, nn.Module)
    return model


def _tiny_tokenizer(*, token_types: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters: every text has tokens, without a vocabulary file."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [chr(code) for code in range(33, 127)]
    pieces = [*special, *characters, *(f"##{character}" for character in characters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=names if token_types else [names[0], names[2]],
    )
