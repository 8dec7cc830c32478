"""Decision Transformers of transformers by the scheme ``hf-dt:FOLDER``; the package is not needed to act.

``FOLDER`` is what ``DecisionTransformerModel.save_pretrained`` wrote: ``config.json`` and
``model.safetensors``. The network is rebuilt from its weights (:mod:`.network`) and acts as in the authors'
evaluation: it is shown the last steps with the return that is still to be earned. Arguments stand behind the
name, as in
``hf-dt:hopper(target_return=3600, scale=1000, normalization='hopper.json')``:

    target_return   return to ask for, in unscaled reward; by default the task's
    scale           rewards and returns are divided by it; by default the task's
    normalization   .npz or .json with mean and std (or var) of the states, from the folder; none by default
    context         steps that are shown; by default ``max_length`` of the configuration, else 20
    low, high       of the policy's actions, -1 and 1 by default; a number or one a dimension
"""

from __future__ import annotations

from collections.abc import Sequence

from lram.agents.adapters.decision_transformer.agent import DtOptions, load_agent
from lram.agents.adapters.decision_transformer.folder import CONFIG_FILE, PICKLE_FILE, WEIGHTS_FILE
from lram.agents.adapters.files import AdapterFiles, named_in, split_folder, within
from lram.agents.api import Agent
from lram.agents.calls import call_with, parse_arguments
from lram.agents.compute import Compute

__all__ = ["files", "load"]

_ADVICE = "give a folder that save_pretrained() of transformers wrote"


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``hf-dt:WHERE``.

    Args:
        where: ``FOLDER`` or ``FOLDER(name=value)``.
        seed: Of no use: the weights are trained, and nothing is drawn.
        compute: Device and rows of a pass; float32 only.

    Raises:
        AgentError: The folder cannot be read, or holds another model; one sentence.
    """
    folder, arguments = split_folder(where, _ADVICE)

    def hf_dt(
        *,
        target_return: float | None = None,
        scale: float | None = None,
        normalization: str | None = None,
        context: int | None = None,
        low: float | Sequence[float] = -1,
        high: float | Sequence[float] = 1,
    ) -> Agent:
        options = DtOptions(target_return, scale, normalization, context, low, high)
        return load_agent(folder, options, compute)

    agent: Agent = call_with(hf_dt, f"hf_dt{arguments}", {})
    return agent


def files(where: str) -> AdapterFiles:
    """Return the files of ``hf-dt:WHERE``; AgentError where they are not there."""
    folder, arguments = split_folder(where, _ADVICE)
    weights = WEIGHTS_FILE if (folder / WEIGHTS_FILE).is_file() else PICKLE_FILE
    given = parse_arguments(f"hf_dt{arguments}").named.get("normalization")
    names = [CONFIG_FILE, weights, *([given] if isinstance(given, str) else [])]
    return within(named_in(where, arguments), *(folder / name for name in names))
