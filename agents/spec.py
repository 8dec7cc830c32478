"""The grammar of an agent's name, read in one place: ``BASE@CONTEXT~NOISE``.

    base       what is built: ``random``, ``xlstm[7:1]-16M``, ``runs/x/checkpoint``, ``module:make(3, a='b')``
    suffixes   what limits or disturbs it, from the inside out: ``@window=50``, ``~0.3x5``; any number of them

A label (``label=...``) is the run's, and is taken off before. What a base means is described in
:mod:`lram.agents.factory`, arguments in :mod:`lram.agents.calls`, contexts in
:mod:`lram.agents.acting.contexts`, and noise in :mod:`lram.agents.experts.noise`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lram.agents.acting.contexts import split_context
from lram.agents.adapters import adapter_of
from lram.agents.calls import split_call
from lram.agents.experts.noise import split_noise
from lram.agents.own_modules import split_code


@dataclass(frozen=True, slots=True)
class Suffix:
    """What stands behind an agent's name.

    Attributes:
        mark: ``@`` for a context, ``~`` for noise.
        text: What follows the mark, as written.
    """

    mark: Literal["@", "~"]
    text: str


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent as it is named.

    Attributes:
        base: Without suffixes, but with arguments.
        suffixes: From the inside out.
    """

    base: str
    suffixes: tuple[Suffix, ...] = ()

    @property
    def text(self) -> str:
        """The whole of it."""
        return self.base + "".join(suffix.mark + suffix.text for suffix in self.suffixes)

    @property
    def called(self) -> str:
        """The base without its arguments."""
        return split_call(self.base)[0]

    @property
    def module(self) -> str:
        """The module that building it imports because it is named; empty where none is."""
        return "" if adapter_of(self.base) is not None else split_code(self.called)[0]

    @property
    def heads(self) -> tuple[str, ...]:
        """The whole text, then what is left of it as its suffixes are taken off, down to the base."""
        count = len(self.suffixes)
        return tuple(AgentSpec(self.base, self.suffixes[: count - off]).text for off in range(count + 1))

    @property
    def folder(self) -> str:
        """The first of ``heads`` that is a folder here; empty where none is."""
        for head in self.heads:
            try:
                if head and Path(head).is_dir():
                    return head
            except (OSError, ValueError):  # too long for a name, or no name at all
                continue
        return ""


def parse_agent(text: str, literal: Callable[[str], bool] | None = None) -> AgentSpec:
    """Return the parts of an agent's name.

    Args:
        text: Without a label.
        literal: Whether something is to be taken as it is, such as a folder's name that has a ``~`` in it.
    """
    base, suffixes = text, ()
    while literal is None or not literal(base):
        for mark, split in (("~", split_noise), ("@", split_context)):
            inner, suffix = split(base)
            if suffix:
                base, suffixes = inner, (Suffix(mark, suffix), *suffixes)  # type: ignore[assignment,arg-type]
                break
        else:
            break
    return AgentSpec(base, suffixes)


def acts_with_noise(text: str) -> bool:
    """Return whether an agent is named with noise: its digest is of weights that it does not act by alone.

    A folder that is there under the whole name is none.
    """
    return any(suffix.mark == "~" for suffix in parse_agent(text, lambda name: Path(name).exists()).suffixes)
