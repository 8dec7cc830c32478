"""Policies of Stable-Baselines3 by the scheme ``sb3:FILE.zip``; the package itself is not needed to act.

The archive's network is rebuilt from its weights (:mod:`lram.agents.adapters.sb3.network`) and acts as
``predict`` of the package does on the same archive. Arguments stand behind the name, as in
``sb3:reach.zip(activation='elu', deterministic=False)``:

    activation      of the hidden layers, where the archive does not name one of torch's
    deterministic   False: actions are drawn, from the episode's seed
    low, high       of the policy's actions, where the archive does not tell; a number or one a dimension
    normalization   .npz or .json with mean, var, clip and epsilon of VecNormalize; False: there was none
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lram.agents.adapters.files import AdapterFiles, beside, named_in, split_file
from lram.agents.adapters.sb3.loading import STATISTICS, Sb3Options, load_policy
from lram.agents.api import Agent
from lram.agents.calls import call_with, parse_arguments
from lram.agents.compute import Compute

__all__ = ["files", "load"]

_ADVICE = "give a .zip that model.save() of Stable-Baselines3 wrote"


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``sb3:WHERE``.

    Args:
        where: ``FILE.zip`` or ``FILE.zip(name=value)``.
        seed: Of no use: the weights are trained, and draws begin with an episode's seed.
        compute: Device; float32 only.

    Raises:
        AgentError: The archive cannot be read, or is of a policy that is not known here; one sentence.
    """
    file, arguments = split_file(where, _ADVICE)

    def sb3(
        *,
        activation: str | None = None,
        deterministic: bool = True,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
        normalization: str | bool | None = None,
    ) -> Agent:
        options = Sb3Options(activation, deterministic, low, high, normalization)
        return load_policy(Path(file), options, compute)

    agent: Agent = call_with(sb3, f"sb3{arguments}", {})
    return agent


def files(where: str) -> AdapterFiles:
    """Return the files of ``sb3:WHERE``; AgentError where they are not there.

    Statistics that the arguments do not mention are included, so that they are noticed wherever the policy
    is loaded.
    """
    file, arguments = split_file(where, _ADVICE)
    given = parse_arguments(f"sb3{arguments}").named.get("normalization")
    others = [given] if isinstance(given, str) else STATISTICS if given is None else []
    return beside(named_in(where, arguments), *(file.parent / name for name in others))
