"""What a user's own code raised, told in a clause: its type, its text, and where."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.shown import shown

_ROOMS = tuple(Path(__file__).parents[1] / room for room in ("agents", "envs", "harness", "reports"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def cause_of(error: BaseException) -> str:
    """Return ``AssertionError: text (file.py, line 3)``, the line of the user's code where one is in it."""
    try:
        text = shown(" ".join(str(error).split()), 500)
    except BaseException:  # its class may raise there as well
        text = "its message cannot be read"
    place = place_of(error)
    if not place and (frames := traceback.extract_tb(error.__traceback__)):
        place = _shown_frame(frames[-1])
    return f"{type(error).__name__}{': ' if text else ''}{text}" + (f" ({place})" if place else "")


def place_of(error: BaseException) -> str:
    """Return the last line of the user's own code that an error came through; empty where there is none."""
    others = (*_ROOMS, Path(sysconfig.get_path("stdlib")))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if not file.is_absolute() or _INSTALLED.intersection(file.parts):
            continue
        if not any(file.is_relative_to(other) for other in others):
            return _shown_frame(frame)
    return ""


def of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory, whoever asked for it."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or "allocate" in text or "out of memory" in text


@contextmanager
def own_code(what: str, advice: str) -> Iterator[None]:
    """Turn what the user's code raises in here into one sentence.

    Args:
        what: Subject and verb of the sentence.
        advice: The next step.

    Raises:
        AgentError: ``what: cause; advice``. Interruptions and too little memory pass as they are.
    """
    try:
        yield
    except (AgentError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit, which must not take the command with it
        if of_memory(error):
            raise
        raise AgentError(f"{what}: {cause_of(error)}; {advice}") from error


def _shown_frame(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}, line {frame.lineno}"
