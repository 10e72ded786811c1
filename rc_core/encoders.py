"""The encoders that trials name: whether they exist, and what compressions can do to them."""

from __future__ import annotations

from dataclasses import replace

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import InputError, ModelError, Problem
from rc_core.layout import check_layout
from rc_core.model_facts import ModelFacts, may_be_elsewhere, model_facts


class Encoders:
    """What is known about each encoder; each is looked up once."""

    def __init__(self, *, elsewhere: bool = False) -> None:
        """Store the settings.

        Args:
            elsewhere: trials run on another machine, so encoders need not be on this one.
        """
        self._elsewhere = elsewhere
        self._facts: dict[str, ModelFacts | None] = {}

    @property
    def unknown(self) -> list[str]:
        """Encoders that are not on this machine."""
        return [encoder for encoder, facts in self._facts.items() if facts is None]

    def look_up(self, encoder: str, where: str) -> list[Problem]:
        """Look up an encoder; the first time it is asked for, return why it cannot be used."""
        if encoder in self._facts:
            return []
        self._facts[encoder] = None
        try:
            facts = model_facts(encoder)
            check_layout(encoder, facts.model_type)
            self._facts[encoder] = facts
        except ModelError as error:
            if not (self._elsewhere and may_be_elsewhere(encoder)):
                return [Problem(where, problem.message) for problem in error.problems]
        return []

    def problems(self, config: TrialConfig) -> list[Problem]:
        """Return why a trial's encoder cannot be compressed as asked, or as its alpha is judged.

        The latter is a trial of its own, with `loss.alpha_on` as its compression.
        """
        found = self._of_trial(config)
        on = getattr(config.loss, "alpha_on", None)
        if on is not None and getattr(config.loss, "alpha", None) == "auto":
            judged = decode(config.as_dict() | {"compression": on})
            for each in self._of_trial(judged):
                # Problems of the encoder or of the plugin's file keep their place.
                named = each.where.startswith("compression.")
                where = each.where.removeprefix("compression.")
                found.append(replace(each, where=f"loss.alpha_on.{where}") if named else each)
        return found

    def _of_trial(self, config: TrialConfig) -> list[Problem]:
        encoder = config.compression.encoder(config.model)
        own = encoder != config.model
        found = self.look_up(encoder, "compression.model" if own else "model")
        facts = self._facts[encoder]
        return found if facts is None else [*found, *_of_plugin(config, facts)]


def _of_plugin(config: TrialConfig, facts: ModelFacts) -> list[Problem]:
    """Return the problems that the compression's file reports; if it fails, that is one as well."""
    module = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
    try:
        found = module.problems(config.compression, facts)
    except InputError as error:
        return error.problems
    # Whatever the plugin's code raises must not hide other problems, nor end the command.
    except Exception as error:
        got = f"raised {type(error).__name__}: {error}"
    else:
        if isinstance(found, list) and all(isinstance(each, Problem) for each in found):
            return found
        got = f"returned {found!r}"
    file = f"{module.__name__.replace('.', '/')}.py"
    return [Problem(file, f"problems() must return a list of Problem, but {got}")]
