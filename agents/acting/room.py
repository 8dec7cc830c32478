"""Memory that runs out while a model acts: one sentence, with the rows or lanes that fit, which are tried.

What a pass needs beside weights and states grows with its rows, and a state with the lanes; how much that is,
a device's allocator and kernels decide. So fewer are tried, half as many each time, until some fit.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, Self

import torch

from lram.agents.api import Action, AgentError, Episode, Observation
from lram.agents.backbones.states import State
from lram.agents.compute import ROWS


class PassingAgent(Protocol):
    """What is asked of a model as an agent (:class:`lram.agents.acting.model_agent.ModelAgent`).

    Attributes:
        rows: Of a pass.
    """

    rows: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def with_rows(self, rows: int) -> Self:
        """Return it with passes of so many rows."""
        ...

    def blocks_of(self, count: int) -> list[State]:
        """Return the states of ``count`` passes."""
        ...

    def start(self, lanes: int) -> Any:
        """See :class:`lram.agents.api.Agent`."""
        ...

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """See :class:`lram.agents.api.Agent`."""
        ...

    def decide(
        self,
        state: Any,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], Any]:
        """Decide, and raise what PyTorch raises."""
        ...


def no_room_for_pass(
    agent: PassingAgent,
    error: BaseException,
    episodes: Sequence[Episode],
    observations: Sequence[Observation],
) -> AgentError:
    """Return what to say of a pass that ran out of memory.

    Args:
        agent: Whose pass.
        error: What was raised; what its frames hold is given back.
        episodes, observations: Of some lanes of it, to try others with.
    """
    _give_back(agent, error)
    rows = next(
        (rows for rows in _fewer(agent.rows) if _fits(partial(_decide, agent, rows, episodes, observations))),
        0,
    )
    said = f"{_where(agent)} is out of memory in a pass of {agent.rows} row{'s' * (agent.rows > 1)}"
    if rows:
        return AgentError(f"{said}; {rows} fit{'s' * (rows == 1)}: give --rows {rows}")
    least = "" if agent.rows == 1 else ", and one row does not fit either"
    return AgentError(f"{said}{least}; give fewer --lanes, a narrower --precision or a smaller model")


def no_room_for_lanes(agent: PassingAgent, error: BaseException, lanes: int) -> AgentError:
    """Return what to say of ``lanes`` lanes whose states ran out of memory."""
    _give_back(agent, error)
    blocks = -(-lanes // agent.rows)
    fitting = next((count for count in _halves(blocks) if _fits(partial(agent.blocks_of, count))), 0)
    said = f"{_where(agent)} is out of memory for the states of {lanes} lanes"
    if fitting:
        return AgentError(f"{said}; those of {fitting * agent.rows} fit: give --lanes {fitting * agent.rows}")
    return AgentError(
        f"{said}, and for those of one pass, of {agent.rows} rows; give fewer --rows or a smaller model"
    )


def _decide(
    agent: PassingAgent, rows: int, episodes: Sequence[Episode], observations: Sequence[Observation]
) -> None:
    """Decide once for ``rows`` lanes in one pass of so many rows, beside all that is there."""
    twin, lanes = agent.with_rows(rows), list(range(rows))
    state = twin.start(rows)
    twin.reset(state, lanes, [episodes[lane % len(episodes)] for lane in lanes])
    twin.decide(state, [observations[lane % len(observations)] for lane in lanes], [0.0] * rows, lanes)


def _fits(attempt: Callable[[], object]) -> bool:
    """Return whether ``attempt`` finds room; where it fails for another reason, it does not."""
    try:
        attempt()
    except (RuntimeError, MemoryError) as error:
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        gc.collect()
    return True


def _fewer(rows: int) -> Iterator[int]:
    """Yield fewer rows than ``rows`` that a pass may have: about half as many each time, and at last one."""
    while rows > ROWS:
        rows = max(ROWS, rows // 2 // ROWS * ROWS)
        yield rows
    if rows > 1:
        yield 1


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def _give_back(agent: PassingAgent, error: BaseException) -> None:
    """Let go of what the frames of ``error`` hold, so that it does not count as used."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if agent.device.type == "cuda":
        torch.cuda.empty_cache()


def _where(agent: PassingAgent) -> str:
    """Return where ``agent`` computes, with what is used of its memory where that is known."""
    if agent.device.type != "cuda":
        return "this machine"
    free, whole = torch.cuda.mem_get_info(agent.device)
    return f"{agent.device} ({(whole - free) / 2**30:.1f} of {whole / 2**30:.1f} GiB are used)"
