"""What a part with a compiled form is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor


class Part(ABC):
    """A module that has another one for the compiled step."""

    @abstractmethod
    def compiled(self, tokens: int) -> Any:
        """Return what takes this module's place in a compiled step: it is called alike.

        Args:
            tokens: About how many a pass will have, all rows together.
        """

    def matrices(self) -> Iterator[Tensor]:
        """Yield its own weights (out, in) of matrix products, those of modules within it left out."""
        yield from ()
