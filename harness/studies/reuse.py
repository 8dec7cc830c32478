"""What other studies have made already: the same training, and the same trajectories, are copied from them.

A cell's key is a hash of everything that decides its numbers (:mod:`lram.harness.studies.cells`), so the
training of a cell with the same key is the one that would be made here. Only trainings are taken: an
evaluation carries its own cell's title, and times of decisions are compared within a study, so both are made
anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lram.agents.places import placed
from lram.agents.trajectories import TrajectoryStore
from lram.harness.errors import LramError, as_lram_error
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.links import refuse_links
from lram.harness.storage.trees import copied_tree, names_in
from lram.harness.studies.folder import REUSED_FILE, STUDY_FILE, CellFolder, StudyFolder
from lram.harness.studies.initial_weights import InitialWeights
from lram.harness.studies.records import SCHEMA, Reused
from lram.harness.words import count

Say = Callable[[str], None]


def opened_others(folders: Sequence[str | Path], own: Path) -> list[StudyFolder]:
    """Return the studies in ``folders``, each of a study or of an item of the paper that is one.

    Raises:
        LramError: One is neither, or is the study's own.
    """
    found = []
    for folder in folders:
        path = placed(folder)
        if not os.path.lexists(path / STUDY_FILE) and os.path.lexists(path / "study" / STUDY_FILE):
            path = path / "study"
        if path.resolve() == own.resolve():
            raise LramError(f"--reuse names {path}, which is this study itself; name another one")
        found.append(StudyFolder(path))
    return found


@as_lram_error()
def reuse_store(key: str, folder: Path, others: Sequence[StudyFolder], say: Say) -> None:
    """Copy the trajectories ``key`` into ``folder``, the study's data, if one of ``others`` has them whole.

    What was begun here is not touched.

    Raises:
        LramError: They are not what they were when they were collected.
        OSError: They cannot be copied.
    """
    store, marker = folder / key, folder / f"{key}.json"
    if os.path.lexists(store) or os.path.lexists(marker):
        return
    for other in others:
        theirs, card = other.path / "data" / key, other.path / "data" / f"{key}.json"
        if not card.is_file():
            continue
        digest = read_json(card, dict[str, str]).get("digest")
        if TrajectoryStore(theirs).digest != digest:
            raise LramError(
                f"the trajectories in {theirs} have changed since they were collected; leave out --reuse "
                f"{other.path}"
            )
        with copied_tree(theirs, store, names_in(theirs)):
            pass
        write_json(marker, {"digest": digest})
        say(f"the trajectories {key} are those of the study {other.plan.study.name}: copied from {theirs}")
        return


def reuse_trainings(cells: Sequence[CellFolder], others: Sequence[StudyFolder], say: Say) -> None:
    """Copy the trainings of ``cells`` that were not begun here and that one of ``others`` has to its end.

    States that a training continues from are not copied. ``train/reused.json`` tells whose each is. One that
    began from other weights than the recipe's ``model.init_from`` holds now is another, and is not taken.

    Raises:
        LramError: A record of the others is damaged.
        OSError: A training cannot be copied.
    """
    weights = InitialWeights()
    for other in others:
        made = {cell.entry.key: cell for cell in other.cells() if cell.is_trained()}
        fitting = taken = 0
        for cell in cells:
            theirs = made.get(cell.entry.key)
            fitting += theirs is not None
            if theirs is None or os.path.lexists(cell.train):
                continue
            if words := weights.other(cell, theirs.train):
                say(f"the training in {theirs.train} is not that of the cell {cell.entry.title!r}: {words}")
                continue
            refuse_links(cell.path.parent, (cell.path.name,))
            names = [name for name in names_in(theirs.train) if not name.startswith("state/")]
            with copied_tree(theirs.train, cell.train, names) as copy:
                if theirs.reused() is None:
                    write_json(copy / REUSED_FILE, _origin(other, theirs))
            taken += 1
        if taken:
            say(f"{count(taken, 'training')} of the study {other.plan.study.name} copied from {other.path}")
        elif fitting:
            say(f"made or begun here before, and in {other.path}, too: {count(fitting, 'training')}")
        else:
            say(f"{other.path} has no training that is to be made here: no cell of the same key")


def _origin(study: StudyFolder, cell: CellFolder) -> Reused:
    seconds = cell.seconds().get("train", 0.0)
    return Reused(SCHEMA, cell.entry.key, study.plan.study.name, cell.entry.title, seconds)
