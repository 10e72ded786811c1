"""Keys that a plugin has got since the first version: configurations of before are read by them."""

from __future__ import annotations

import pytest

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, decode
from rc_core.former import FORMER, FORMER_DEFAULTS

# The keys of the first version, besides `name`. A key that is added has a line in
# rc_core/former.py, not here; a new plugin may be left out until its first release.
FIRST = {
    "task.fever": "allow_overlap data_dir id_test labels limit ood_test seed symmetric_v1 "
    "symmetric_v2_dev symmetric_v2_test test_limit train",
    "task.files": "allow_overlap data_dir drop_labels label labels limit roles seed text",
    "task.mnli": "allow_overlap data_dir id_test limit ood_dev ood_dev_limit ood_test seed "
    "test_limit train",
    "task.qqp": "allow_overlap data_dir id_test limit ood_dev ood_dev_limit paws_qqp "
    "paws_wiki_test seed test_limit train",
    "task.shortcut_nli": "bias_conflicting dev_size seed test_size train_size",
    "compression.dense": "init",
    "compression.ffn": "freeze_embeddings init num_batches remove",
    "compression.heads": "freeze_embeddings init min_per_layer num_batches remove",
    "compression.magnitude": "init num_prunings ramp schedule scope sparsity",
    "compression.student": "init keep model num_layers select",
    "loss.conf_reg": "expert lambda shuffled temperature",
    "loss.distil": "lambda temperature",
    "loss.focal": "gamma",
    "loss.jtt": "first_epochs up_weight",
    "loss.poe": "beta expert lambda shuffled temperature",
    "loss.rmc": "alpha alpha_on lambda normalisation shuffled temperature",
    "loss.smooth": "degree lambda temperature",
    "loss.vanilla": "",
    "difficulty.hypothesis_only": "folds",
    "difficulty.level_errors": "epochs learning_rate levels mode",
    "difficulty.loss_variance": "epochs learning_rate levels mode",
    "difficulty.teacher_errors": "epochs folds",
}


@pytest.mark.parametrize("plugin", FIRST)
def test_a_key_that_came_later_says_what_was_done_before(plugin: str) -> None:
    section, name = plugin.split(".")
    config = plugins.load(PLUGIN_PACKAGES[section], name).Config
    keys = {field.alias or key for key, field in config.model_fields.items()} - {"name"}
    first = set(FIRST[plugin].split())
    assert keys - first == set(FORMER.get(plugin, {})), "one line for each in rc_core/former.py"
    assert not first - keys, "records hold it: they could not be read any more"


@pytest.mark.parametrize("plugin", FORMER)
def test_what_was_done_before_can_still_be_done(plugin: str) -> None:
    section, name = plugin.split(".")
    config = decode({"model": "tiny:bert", section: {"name": name, **FORMER[plugin]}})
    values = config.as_dict()[section]
    assert {key: values[key] for key in FORMER[plugin]} == FORMER[plugin]


@pytest.mark.parametrize("plugin", FORMER_DEFAULTS)
def test_a_former_default_is_a_value_of_today_but_not_the_default(plugin: str) -> None:
    section, name = plugin.split(".")
    given = decode({"model": "tiny:bert", section: {"name": name, **FORMER_DEFAULTS[plugin]}})
    today = decode({"model": "tiny:bert", section: {"name": name}})
    for key, value in FORMER_DEFAULTS[plugin].items():
        assert given.as_dict()[section][key] == value
        assert today.as_dict()[section][key] != value
