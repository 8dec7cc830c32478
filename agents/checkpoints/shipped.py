"""Trained models that come with the package, to try everything on real checkpoints.

``small-*`` know 17 easy tasks of four domains, ``zoo-*`` 45 of Meta-World and four of DMControl,
``control-xlstm[1:0]`` the same 45 and eight of DMControl.

Each is a checkpoint's folder in ``data/checkpoints``. How they were made, and what they score:
``docs/reference/models.md``. This module imports no torch.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import resources
from pathlib import Path

from lram.agents.checkpoints.description import CONFIG_FILE

_FOLDERS = {
    "small-xlstm[1:0]": "small-xlstm-1-0",
    "small-xlstm[7:1]": "small-xlstm-7-1",
    "small-mamba": "small-mamba",
    "small-transformer": "small-transformer",
    "zoo-xlstm[1:0]": "zoo-xlstm-1-0",
    "zoo-xlstm[7:1]": "zoo-xlstm-7-1",
    "zoo-mamba": "zoo-mamba",
    "zoo-transformer": "zoo-transformer",
    "control-xlstm[1:0]": "control-xlstm-1-0",
}


@cache
def shipped_checkpoints() -> dict[str, Path]:
    """Return the folder of every trained model that is here, by the name an agent is asked for with."""
    base = Path(str(resources.files("lram.agents").joinpath("data/checkpoints")))
    return {
        name: base / folder for name, folder in _FOLDERS.items() if (base / folder / CONFIG_FILE).is_file()
    }


def checkpoint_folder(place: str | os.PathLike[str]) -> Path:
    """Return the folder of the checkpoint that a user names to train, round or read.

    Args:
        place: Its folder, or as text the name of a model that comes with the package. A folder that is called
            so comes first: recipes have always named folders. A path object is a folder.
    """
    folder = Path(place)
    if isinstance(place, str) and place in shipped_checkpoints() and not folder.is_dir():
        return shipped_checkpoints()[place]
    return folder
