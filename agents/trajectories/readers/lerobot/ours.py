"""What ``lram data export`` writes beside a LeRobot data set, so that import gives the same trajectories.

LeRobot has no place for seeds, policies, where contexts start, how many discrete actions there are, or what a
model's rewards are divided by. LeRobot does not read this file; where the data set was changed since, so that
its episodes are no longer those of the file, it is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lram.agents.api import TaskSpec
from lram.agents.durable import read_regular
from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.lerobot.description import EpisodePlace
from lram.agents.trajectories.readers.lerobot.layout import OURS_FILE, OURS_FORMAT, OURS_VERSION
from lram.agents.trajectories.readers.source import SourceError, short


class EpisodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One episode's; fields as :class:`lram.agents.trajectories.trajectory.Trajectory` has them."""

    task: str
    length: int
    terminated: bool
    truncated: bool
    policy: str = ""
    protocol: str = ""
    seed: int | None = None
    context_starts: tuple[int, ...] = (0,)
    origin: str = ""
    record: str = ""


class OurFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file: tasks by id, and a row an episode; ``store`` is the digest of the store that was exported."""

    format: str = OURS_FORMAT
    version: int = OURS_VERSION
    store: str = ""
    tasks: dict[str, TaskSpec]
    episodes: list[EpisodeFacts]

    def describes(self, places: Sequence[EpisodePlace]) -> bool:
        """Return whether the episodes in the data set are those of the file, as far as lengths tell."""
        lengths = [place.length for place in places]
        return lengths == [one.length for one in self.episodes] and all(
            one.task in self.tasks for one in self.episodes
        )


def read_ours(root: Path) -> OurFacts | None:
    """Return what the file of the data set in ``root`` says; None where there is none.

    Raises:
        SourceError: It cannot be read, or is of another version.
    """
    file = root / OURS_FILE
    try:
        found = msgspec.json.decode(read_regular(file), type=OurFacts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise SourceError(
            f"{file} cannot be read ({short(error)}); fetch it again, or move it away to read the rest "
            "without it"
        ) from error
    if (found.format, found.version) != (OURS_FORMAT, OURS_VERSION):
        raise SourceError(
            f"{file} is of the format {printable(found.format)[:40]} {found.version}, which this version of "
            "lram does not know; move it away to read the rest without it"
        )
    return found
