"""Errors of ``lram.envs``; :mod:`lram.harness.errors` draws the tree of all rooms'."""

from __future__ import annotations


class EnvsError(Exception):
    """Root of what ``lram.envs`` raises; the message is for the user."""


class SelectionError(EnvsError, ValueError):
    """A selection, task, domain or protocol that does not exist; the message is one sentence."""


class AnnouncedError(SelectionError):
    """A domain of another package that cannot be loaded or is none; the message is one sentence."""


class SessionError(EnvsError, RuntimeError):
    """A simulator broke its contract, or was asked for something that it cannot do."""


class ConformanceError(EnvsError, AssertionError):
    """A session breaks a rule of the contract; the message is the rule and what was seen."""


class InterpreterError(EnvsError, RuntimeError):
    """An interpreter that cannot be run, or that no worker can run on; the message is a clause about it."""


class WorkerStartError(EnvsError, RuntimeError):
    """The system does not let a worker process start; one sentence."""


class FrameError(EnvsError, ValueError):
    """A frame that is no right answer; the message completes "the worker ...".

    Attributes:
        again: It is a second answer to the request that was answered last.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
