"""Which features of a data set become observations, and what is left out.

A task here has either a vector or one image; a LeRobot data set may have several of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.areas import SIDE
from lram.agents.trajectories.readers.lerobot.description import Feature
from lram.agents.trajectories.readers.lerobot.frames import sides
from lram.agents.trajectories.readers.lerobot.layout import ACTION, ENVIRONMENT_STATE, STATE
from lram.agents.trajectories.readers.source import Note, SourceError

OBSERVATION = "observation."


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """What is read of each frame.

    Attributes:
        observed: One camera, or vectors that are put side by side.
        acted: The action: vectors or numbers that are put side by side.
        notes: What is left out or changed, of one episode.
    """

    observed: tuple[Feature, ...]
    acted: tuple[Feature, ...]
    notes: tuple[Note, ...]

    @property
    def camera(self) -> Feature | None:
        """The camera; None for vectors."""
        return self.observed[0] if self.observed[0].is_image else None


def choose(
    features: Mapping[str, Feature], wanted: tuple[str, ...], where: str, acts: tuple[str, ...] = ()
) -> FeatureChoice:
    """Return what is read of a data set's features.

    Args:
        features: All there are.
        wanted: Keys of the observation, in order; empty: ``observation.state``, else the environment's, else
            the only camera.
        where: Names the data set.
        acts: Keys of the action, in order; empty: ``action``.

    Raises:
        SourceError: There are no such features, or they make no observation.
    """
    observed = tuple(_feature(features, key, where) for key in wanted or _usual(features, where))
    cameras = [one for one in observed if one.is_image]
    if cameras and len(observed) > 1:
        raise SourceError(
            f"{where}: --observation names {', '.join(one.key for one in observed)}; a task has either one "
            "camera or vectors, so name one camera or vectors only"
        )
    for one in observed:
        if not one.is_image and not one.is_vector:
            raise SourceError(
                f"{where} has {one.key!r} of type {one.kind} and shape {one.shape}, which is neither a "
                "vector nor a camera; name another with --observation"
            )
    acted = tuple(_feature(features, key, where) for key in acts or (ACTION,))
    for one in acted:
        if not one.is_vector:
            raise SourceError(
                f"{where} has {one.key!r} of type {one.kind} and shape {one.shape}, which is neither a "
                "vector nor a number; name another with --action"
            )
    return FeatureChoice(observed, acted, tuple(_notes(features, observed)))


def _feature(features: Mapping[str, Feature], key: str, where: str) -> Feature:
    if key not in features:
        raise SourceError(f"{where} has no feature {key!r}; it has {_listed(features)}")
    return features[key]


def _usual(features: Mapping[str, Feature], where: str) -> tuple[str, ...]:
    for key in (STATE, ENVIRONMENT_STATE):
        if key in features and features[key].is_vector:
            return (key,)
    cameras = [key for key, one in features.items() if key.startswith(OBSERVATION) and one.is_image]
    if len(cameras) == 1:
        return (cameras[0],)
    what = "several cameras and no observation.state" if cameras else "no observation.state and no camera"
    raise SourceError(f"{where} has {what}; say with --observation what is observed: {_listed(features)}")


def _listed(features: Mapping[str, Feature]) -> str:
    return printable(", ".join(features)[:300])


def _notes(features: Mapping[str, Feature], observed: tuple[Feature, ...]) -> list[Note]:
    used = {one.key for one in observed}
    others = [key for key in features if key.startswith(OBSERVATION) and key not in used]
    notes = []
    if others:
        notes.append(
            Note(
                f"episodes are observed as {_words(observed)}; left out: {printable(', '.join(others))} "
                "(--observation chooses)"
            )
        )
    if observed[0].is_image and (size := sides(observed[0])) != (SIDE, SIDE):
        notes.append(
            Note(
                f"episodes have images of {size[0]} x {size[1]}, made {SIDE} x {SIDE} by the mean over areas"
            )
        )
    return notes


def _words(observed: tuple[Feature, ...]) -> str:
    return printable(" and ".join(one.key for one in observed))
