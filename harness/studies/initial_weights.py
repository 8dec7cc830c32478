"""Whether a cell's training began from the weights that its recipe's ``model.init_from`` holds now.

A cell's key has the place of that checkpoint and not what is in it, and keys are not changed any more: they
name the cells that are there. What a training began from is noted by itself, as a digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lram.harness.errors import LramError, as_lram_error
from lram.harness.studies.folder import CellFolder


class InitialWeights:
    """The checkpoints that recipes begin from, as they are now; each is read once."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    @as_lram_error()
    def other(self, cell: CellFolder, train: Path) -> str:
        """Return in words how the training in ``train`` began otherwise than ``cell`` would begin now.

        Empty where it did not, or where it does not tell, as one of an earlier version before its end.

        Raises:
            LramError: The checkpoint, or what the training noted, cannot be read.
        """
        from lram.agents.checkpoints.shipped import checkpoint_folder
        from lram.agents.training.folder import is_finished  # which imports torch

        model = cell.entry.recipe.get("model")
        place = str(model.get("init_from", "")) if isinstance(model, Mapping) else ""
        before = _began_from(train) if place else ""
        if not before or (not checkpoint_folder(place).exists() and is_finished(train)):
            return ""  # a study is evaluated and timed anew without what its trainings began from
        if before == (now := self._digest(place)):
            return ""
        return f"it began from other weights (digest {before[:12]}) than {place} holds now ({now[:12]})"

    def _digest(self, place: str) -> str:
        from lram.agents.checkpoints.folder import load_checkpoint  # which imports torch
        from lram.agents.checkpoints.shipped import checkpoint_folder

        if place not in self._digests:
            self._digests[place] = load_checkpoint(checkpoint_folder(place))[1].digest
        return self._digests[place]


def check_initial_weights(cells: Sequence[CellFolder]) -> None:
    """Raise LramError where trainings of ``cells`` here began from other weights; it names all of them."""
    weights = InitialWeights()
    found = {cell: words for cell in cells if (words := weights.other(cell, cell.train))}
    if not found:
        return
    first = next(iter(found))
    if len(found) == 1:
        raise LramError(
            f"the training in {first.train} is not that of the cell {first.entry.title!r}: {found[first]}; "
            f"put those back, or move {first.path} away, and the cell is made anew"
        )
    raise LramError(
        f"{len(found)} trainings in {first.path.parent} are not those of their cells, the first of them "
        f"because {found[first]}; put those back, or move these folders away, and the cells are made anew: "
        f"{' '.join(cell.path.name for cell in found)}"
    )


def _began_from(train: Path) -> str:
    """Return the digest of the checkpoint that a training began from; empty where it does not tell."""
    from lram.agents.checkpoints.description import origin_digest, read_card
    from lram.agents.training.folder import FINAL, beginning_of, is_finished

    if is_finished(train):
        return origin_digest(read_card(train / FINAL))
    beginning = beginning_of(train)
    return "" if beginning is None else beginning.init_from
