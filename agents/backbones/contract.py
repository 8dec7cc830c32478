"""The Backbone contract: what turns a stream of embedded tokens into hidden states.

``forward`` reads whole sequences at once, for training; ``step`` reads the next few tokens of many
rows, for acting. What always holds, and is checked for every kind in ``tests/agents``:

* ``step`` over a sequence, in passes of any size, gives what ``forward`` gives on it (for one whose past is
  read anew, :class:`lram.agents.backbones.spec.Past`: while no token was dropped).
* A token that ``valid`` masks leaves its row's state as it was, bit for bit; what ``step`` returns at
  its place is finite for finite inputs and has no meaning.
* A row that was ``reset`` is as in ``initial_state``, bit for bit.
* A row's outputs do not depend on the contents of other rows.
* States are float32 whatever the type of the weights, and have the row first in every tensor.

``forward``, ``initial_state`` and ``step`` are all that a recurrence needs. The methods below them say what
follows from keeping a cache, or from computing in special ways; their defaults are right for a recurrent
state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lram.agents.backbones.states import State, put, state_bytes


class Backbone(nn.Module, ABC):
    """A stack of blocks with a recurrent form; the module's text tells the contract."""

    DECAYED: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Modules of its own whose ``weight`` decays in training, beside torch's linear layers and
    convolutions.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states (rows, tokens, width) of whole sequences ``x`` of that shape."""

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """Return the state of ``rows`` fresh rows."""

    @abstractmethod
    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Read the next k tokens of every row.

        Args:
            x: (rows, k, width).
            state: What ``initial_state`` or the last ``step`` returned. Its memory may be used for
                the returned state, so read only the latter afterwards (``take`` makes a copy). A state
                made in ``torch.inference_mode`` can be used there only.
            valid: (rows, k) bool; False where there is no token. None: all are there.

        Returns:
            Hidden states (rows, k, width), and the state after the valid tokens.
        """

    def reset_parameters(self) -> None:
        """Draw initial weights from torch's global generator; by default they stay as PyTorch drew them."""

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """Make ``rows`` of ``state`` fresh, in place."""
        put(state, rows, self.initial_state(len(rows)))

    def remember(self, x: Tensor, state: State, valid: Tensor | None = None) -> State:
        """Return the state after tokens whose hidden states nobody wants; takes what ``step`` takes."""
        return self.step(x, state, valid)[1]

    def ready(self, state: State, tokens: int) -> State | None:
        """Return ``state`` so that :meth:`ready_step` can read a pass of ``tokens`` a row next.

        What the host has to decide is decided here: memory for a cache that grows, rows that have to forget.
        None where :meth:`step` must read this pass. By default nothing has to be decided.
        """
        return state

    def ready_step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Do what ``step`` does, of a state that is :meth:`ready`, without any decision of the host.

        The same operations whatever the tensors hold: so they can be recorded once and played again.
        """
        return self.step(x, state, valid)

    def rewinder(self, state: State, tokens: int, *, trim: bool = False) -> Callable[[], State] | None:
        """Return what gives ``state`` as it is now, again and again, after passes of ``tokens`` each.

        For measuring decisions at one context. None where a pass writes over what it read, as that of a
        recurrent state does.

        Args:
            state: What every call gives; it is used up.
            tokens: Of a pass, in a row.
            trim: Keep no more memory than the tokens read and those of one pass need.
        """
        return None

    def with_room(self, state: State, tokens: int) -> State:
        """Return ``state`` with memory for ``tokens`` more of each row, so that no pass has to make it."""
        return state

    def fitted_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of a backbone of the same kind, made to fit one whose past is longer.

        What the model then computes may be of no use, but takes the same time.
        """
        return dict(weights)

    def step_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that a decision reads whole: all but tables."""
        yield from self.parameters()

    def moved_bytes(self, state: State, tokens: int) -> tuple[int, int]:
        """Return what a pass of ``tokens`` a row must at least read of the past, and read and write back."""
        return 0, state_bytes(state)

    def bytes_after(self, rows: int, tokens: int) -> int:
        """Return the bytes that ``rows`` rows keep after so many tokens each."""
        return state_bytes(self.initial_state(rows))

    def plain_detail(self) -> str:
        """Return in words what computes the plain step."""
        return "plain PyTorch"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
