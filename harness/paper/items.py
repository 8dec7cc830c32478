"""The paper's items as their files tell them: what each asks, what it needs and takes, and its commands.

::

    title = "Score by model size"
    asks = "Do larger models act better?"
    paper = "Four sizes of four backbones, three training seeds."
    axes = "validation perplexity and score against weights, a line a backbone"
    needs = ["metaworld"]                     # domains that are played at the laptop's scale
    study = "size-sweep"                      # a study that ships; or, in [laptop] and [full], steps
    differs = ["Five tasks of one domain."]   # what else differs from the paper, at either scale

    [laptop]
    minutes = 45                              # on one core of the machine of docs/results
    known = "extrapolated: a cell takes 75 s" # or "measured"
    steps = ["latency {models} -o {out}/sweep", "report {out}/sweep -o {out}/report"]
    models = ["mamba-16M"]

    [full]
    hours = [5, 30]                           # of a training on four A100, as the paper reports
    differs = ["..."]
    axes = [...]                              # of the study, in place of the laptop's

This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from msgspec import Meta

from lram.harness.errors import LramError
from lram.harness.strict_toml import converted, read_toml

Scale: TypeAlias = Literal["laptop", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)

Text = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class LaptopScale:
    """How an item runs on two cores.

    Attributes:
        minutes: What it takes on one core of the machine of ``docs/results``.
        known: ``measured``, or ``extrapolated: ...`` from what.
        steps: Commands without ``lram``; empty: those of a study.
        models: What ``{models}`` stands for.
        study: Fields of the study that this scale has otherwise.
        recipe: Of ``{out}/recipe.toml``, where a step reads it.
        differs: What differs from the paper at this scale.
    """

    minutes: Annotated[float, Meta(gt=0)]
    known: Annotated[str, Meta(pattern="^(measured|extrapolated: .+)")]
    steps: tuple[Text, ...] = ()
    models: tuple[Text, ...] = ()
    study: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    differs: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class FullScale:
    """How an item runs at the paper's sizes; fields as :class:`LaptopScale` has them.

    Attributes:
        hours: Of one training on four A100 of 40 GB, the shortest and the longest, as reviews of the paper
            tell them; empty where nothing is trained.
        takes: What it takes, where that is no training.
        needs: What must be there beside the hardware.
    """

    needs: tuple[Text, ...]
    hours: tuple[float, ...] = ()
    takes: str = ""
    steps: tuple[Text, ...] = ()
    models: tuple[Text, ...] = ()
    study: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    differs: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class PaperItem:
    """A figure or table of the paper.

    Attributes:
        key: Its name on the command line.
        title: In a few words.
        asks: Its question.
        paper: What the paper did.
        axes: How the paper draws it, and ``lram report`` here.
        needs: Domains that are played at the laptop's scale.
        study: The study that ships it begins with; empty where it is none.
        missing: What it lacks to be run; empty where it can be.
        differs: What differs from the paper's protocol at both scales.
    """

    key: str
    title: Text
    asks: Text
    paper: Text
    axes: Text
    needs: tuple[Text, ...] = ()
    study: str = ""
    missing: str = ""
    differs: tuple[Text, ...] = ()
    laptop: LaptopScale | None = None
    full: FullScale | None = None

    def at(self, scale: Scale) -> LaptopScale | FullScale:
        """Return how it runs at ``scale``; LramError where it cannot be run."""
        found = self.laptop if scale == "laptop" else self.full
        if self.missing or found is None:
            lacks = self.missing or f"it is not made for --scale {scale}"
            raise LramError(f"{self.key} cannot be run yet: {lacks}; 'lram paper' lists what can")
        return found


@cache
def paper_items() -> tuple[PaperItem, ...]:
    """Return every item, in the order of the list."""
    return tuple(_read(file) for file in sorted(_folder().joinpath("shipped").glob("*.toml")))


def paper_item(key: str) -> PaperItem:
    """Return the item of that name; LramError where there is none."""
    import difflib

    known = {item.key: item for item in paper_items()}
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(known)}"
        raise LramError(f"the paper has no item {key!r} here; {hint}")
    return known[key]


def shared_full() -> dict[str, Any]:
    """Return the recipe and the evaluation that studies at the paper's scale begin with."""
    return read_toml(_folder() / "full.toml", "the paper's scale")


def _read(file: Path) -> PaperItem:
    # A number in front orders the files; it is no part of the name.
    key = file.stem.partition("-")[2]
    return converted({"key": key, **read_toml(file, "an item of the paper")}, PaperItem, str(file))


def _folder() -> Path:
    return Path(str(resources.files("lram.harness.paper")))
