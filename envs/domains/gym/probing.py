"""What an environment is, found out in a process of its own: making one runs its package's code.

An environment may crash, hang, print or open a window when it is made; none of it reaches the process that
selects tasks, as nothing of a simulator does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from typing import Any

from lram.envs.availability import SAFE_PATH, environment
from lram.envs.domains.gym import names
from lram.envs.errors import SelectionError
from lram.envs.text import message_of, printable

LONGEST_S = 180.0
_START = SAFE_PATH + "from lram.envs.domains.gym.probing import main; main(sys.argv[1])"


@lru_cache(maxsize=1024)
def facts(text: str) -> dict[str, Any]:
    """Return what the environment of a task's name is.

    The keys are ``observation`` and ``action`` (their kinds), ``observation_size`` (None for images),
    ``action_size``, ``horizon`` (decisions; None: no limit of its own), ``entry_point``.

    Raises:
        SelectionError: There is none, or it cannot be played.
    """
    names.parse(text)  # what is no name costs no process
    variables = {"PYTHONWARNINGS": "ignore", **environment(sys.executable)}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _START, text],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LONGEST_S,
            env=variables,
        )
    except subprocess.TimeoutExpired as error:
        raise SelectionError(f"gym:{text} is not made within {LONGEST_S:g} s; leave it out") from error
    try:
        answer = json.loads(ended.stdout)
    except ValueError as error:
        last = (ended.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise SelectionError(
            f"gym:{text} ends the process that makes it (exit status {ended.returncode}): "
            f"{printable(last, 300)}"
        ) from error
    if "refused" in answer:
        raise SelectionError(answer["refused"])
    return dict(answer)


def main(text: str) -> None:
    """Print, as JSON on standard output and nothing else there, what the environment of that name is."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the environment's package prints
    answer: dict[str, Any]
    try:
        answer = _found(text)
    except SelectionError as error:
        answer = {"refused": message_of(error)}
    except BaseException as error:
        answer = {
            "refused": f"gym:{text} cannot be made: "
            f"{printable(f'{type(error).__name__}: {message_of(error)}', 300)}"
        }
    json.dump(answer, out)
    out.close()
    os._exit(0)  # no exit handlers of a simulator


def _found(text: str) -> dict[str, Any]:
    from lram.envs.domains.gym.session import GymnasiumSession, made

    name = names.parse(text)
    made_one = made(name)
    spec = GymnasiumSession(name, made_one).spec
    registered = made_one.spec
    point = registered.entry_point
    return {
        "observation": spec.observation,
        "observation_size": spec.observation_shape[0] if spec.observation == "vector" else None,
        "action": spec.action,
        "action_size": spec.action_size,
        "horizon": _limit(registered.max_episode_steps),
        "entry_point": point if isinstance(point, str) else getattr(point, "__qualname__", repr(point)),
    }


def _limit(steps: Any) -> int | None:
    return int(steps) if isinstance(steps, int) and steps > 0 else None
