"""Which keys of a source's steps are the observation, or the action: as asked, or the only one there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lram.agents.shown import few
from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.source import SourceError

_NAMED = 12


def choose_keys(
    asked: Sequence[str],
    vectors: Collection[str],
    images: Collection[str],
    where: str,
    option: str,
) -> tuple[str, ...]:
    """Return the keys to read: one image, or vectors that become one, side by side in the order asked for.

    Args:
        asked: Keys that the user gave; without any, there must be one key to choose from.
        vectors: Keys of numbers and vectors.
        images: Keys of images.
        where: Names the data set in a sentence.
        option: The option that asks for keys, such as ``--observation``.

    Raises:
        SourceError: A key is not there, is asked for twice, or does not go with the others; one sentence.
    """
    there = [*vectors, *images]
    if not asked:
        if len(there) == 1:
            return (there[0],)
        if not there:
            raise SourceError(
                f"{where} has neither a vector nor an image to read as its {option[2:]}; leave it out"
            )
        raise SourceError(
            f"{where} has {_listed(vectors, images)}; say which with {option} KEY (vectors: several times)"
        )
    for key in asked:
        if key not in there:
            held = _listed(vectors, images) if there else "nothing of the kind"
            raise SourceError(f"{where} has no {printable(key)[:80]!r} to read with {option}; it has {held}")
    if len(set(asked)) < len(asked):
        raise SourceError(
            f"{option} names {printable(max(asked, key=asked.count))[:80]!r} twice; name each key once"
        )
    if len(asked) > 1 and any(key in images for key in asked):
        raise SourceError(
            f"{option} names several keys, which become one vector, and "
            f"{printable(next(key for key in asked if key in images))[:80]!r} is an image in {where}; name "
            "one image, or vectors alone"
        )
    return tuple(asked)


def _listed(vectors: Collection[str], images: Collection[str]) -> str:
    parts = []
    for what, keys in (("vector", vectors), ("image", images)):
        if keys:
            names = few((printable(key)[:80] for key in keys), _NAMED)
            parts.append(f"the {what}{'s' if len(keys) > 1 else ''} {names}")
    return " and ".join(parts)
