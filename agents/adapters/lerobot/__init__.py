"""Policies of LeRobot by the scheme ``lerobot:FOLDER``, run by a Python of their own.

``FOLDER`` is what ``save_pretrained`` of a policy wrote: ``config.json``, ``model.safetensors``, and the
files of its processors, as LeRobot 0.4 and newer keep them (a training's
``checkpoints/last/pretrained_model``). LeRobot is imported by another process
(:mod:`lram.agents.adapters.lerobot.child`), never here: naming a folder is trusting it, as LeRobot imports
what its files name. Arguments stand behind the name, as in
``lerobot:pusht(python='~/lerobot/bin/python', low=0, high=512)``:

    python       that has LeRobot; an absolute path or one from ~. Otherwise LRAM_LEROBOT_PYTHON of the
                 environment, otherwise this Python where it has LeRobot
    features     where the policy reads more than one vector: by name, the numbers [first, end] of a task's
    resize       True: images are resized to the policy's size; otherwise sizes must be equal
    low, high    what of the policy's actions is -1 and 1 for the task; a number or one a dimension
    processors   False: the policy was trained on plain numbers, and the folder has no processors
    prompt       text for policies that read one; by default the task's name in words
    threads      of a pass on a processor
    load_s       longest wait for the policy to be loaded
    answer_s     longest wait for a decision
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lram.agents.adapters.files import AdapterFiles, named_in, split_folder, within
from lram.agents.adapters.lerobot.agent import LeRobotAgent
from lram.agents.adapters.lerobot.folder import LeRobotOptions, files_of, read_folder
from lram.agents.api import Agent, AgentError
from lram.agents.calls import call_with
from lram.agents.compute import Compute

__all__ = ["files", "load"]

_ADVICE = "give the folder that save_pretrained() of a LeRobot policy wrote"


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``lerobot:WHERE``.

    Args:
        where: ``FOLDER`` or ``FOLDER(name=value)``.
        seed: Of no use: the weights are trained, and draws begin with an episode's seed.
        compute: Device; float32 only.

    Raises:
        AgentError: The folder holds no policy that fits, or no Python here has LeRobot; one sentence.
    """
    folder, arguments = split_folder(where, _ADVICE)
    if compute.precision != "float32":
        raise AgentError(f"{folder} computes as it was saved; leave --precision {compute.precision} out")

    def lerobot(
        *,
        python: str = "",
        features: Mapping[str, Sequence[int]] | None = None,
        resize: bool = False,
        low: float | Sequence[float] = -1,
        high: float | Sequence[float] = 1,
        processors: bool = True,
        prompt: str = "",
        threads: int = 1,
        load_s: float = 600,
        answer_s: float = 60,
    ) -> Agent:
        options = LeRobotOptions(
            python, features or {}, resize, low, high, processors, prompt, threads, load_s, answer_s
        )
        return LeRobotAgent(read_folder(folder, options), options, compute.device)

    agent: Agent = call_with(lerobot, f"lerobot{arguments}", {})
    return agent


def files(where: str) -> AdapterFiles:
    """Return the files of ``lerobot:WHERE``; AgentError where they are not there."""
    folder, arguments = split_folder(where, _ADVICE)
    return within(named_in(where, arguments), *(folder / name for name in files_of(folder)))
