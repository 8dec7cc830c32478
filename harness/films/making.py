"""Films of a run's episodes: replayed, compared with their records, and only then encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lram.agents.api import MinimalAgent
from lram.harness.errors import LramError
from lram.harness.films.choosing import ChosenEpisode
from lram.harness.films.place import FilmPlace
from lram.harness.films.scenes import Scene, in_grid, usual_size
from lram.harness.films.settings import FilmSettings
from lram.harness.films.spool import Spool, first_divergence
from lram.harness.films.watching import Camera
from lram.harness.machine import Machine
from lram.harness.opengl import rendering
from lram.harness.progress import Progress, quiet
from lram.harness.replay.comparison import Replayed
from lram.harness.replay.replaying import replay
from lram.harness.storage.films import FilmedEpisode, FilmEntry
from lram.harness.storage.records import EpisodeRecord, WorkItem
from lram.harness.storage.run_folder import Run
from lram.harness.trust import NONE, Trust

BEFORE, AFTER = 60, 120
"""Steps that a film of a divergence shows before and after it."""

MOST_SCENES = 36
"""Of a grid."""


@dataclass(frozen=True, slots=True)
class FilmOutcome:
    """What became of a film.

    Attributes:
        title: What it shows.
        entry: The film; None where there is none.
        refused: Why there is none.
        note: What else it shows, such as where two agents first differ.
    """

    title: str
    entry: FilmEntry | None
    refused: str = ""
    note: str = ""


@dataclass(slots=True, eq=False)
class FilmMaker:
    """Makes films of a run's episodes in a folder, or one film in a file.

    Attributes:
        run: Whose records they are.
        place: A folder that is absent or empty, or a new file whose suffix is one of films.
        settings: How they look.
        agents: Agents that the run knows as Python objects only, by label.
        machine, trust, progress: As for :func:`lram.harness.replay.replay`.
    """

    run: Run
    place: Path
    settings: FilmSettings = field(default_factory=FilmSettings)
    agents: Mapping[str, MinimalAgent] | None = None
    machine: Machine | None = None
    trust: Trust = NONE
    progress: Progress = quiet
    _place: FilmPlace = field(init=False)

    def __post_init__(self) -> None:
        self._place = FilmPlace(self.place, self.settings, self.run.path.resolve().name)

    def check(self) -> None:
        """Raise LramError where no film could be written, before anything is played."""
        self.settings.check()
        self._place.check()

    def episodes(self, chosen: Sequence[ChosenEpisode]) -> list[FilmOutcome]:
        """Make one film an episode; an episode whose replay is not its record has none.

        Raises:
            LramError: Nothing can be replayed, rendered or written here.
        """
        self.check()
        if self._place.single and len(chosen) > 1:
            raise LramError(
                f"{self.place} is one film, and {len(chosen)} episodes are chosen; choose one with --agent, "
                "--task and --episodes, give a folder with -o, or --grid for all in one"
            )
        why = {one.record.item: one.why for one in chosen}
        made: dict[WorkItem, FilmEntry] = {}

        def take(replayed: Replayed, spool: Spool) -> None:
            record = replayed.record
            with _closing({record.item: spool}):
                height = self.settings.size or usual_size(spool)
                frames = in_grid([Scene.of(record, spool)], height, self._steps(0, len(spool) - 1))
                chosen_as = why[record.item]
                words = [record.agent, record.task, record.episode, *_reason_words(chosen_as)]
                made[record.item] = self._place.write(frames, words, "episode", [_filmed(record, chosen_as)])

        done = self._replay([one.record for one in chosen], take)
        # Listed so far in the order in which they ended.
        self._place.list_films([made[one.record.item] for one in done if one.record.item in made])
        return [FilmOutcome(_title(one.record), made.get(one.record.item), _refusal(one)) for one in done]

    def divergences(self, pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]]) -> list[FilmOutcome]:
        """Make a film a pair of episodes with the same start, around the first step at which they differ."""
        self.check()
        if self._place.single and len(pairs) > 1:
            raise LramError(
                f"{self.place} is one film, and {len(pairs)} tasks are chosen; choose one with --task, or "
                "give a folder with -o"
            )
        spools: dict[WorkItem, Spool] = {}
        with _closing(spools):
            done = self._replay([record for pair in pairs for record in pair], _keeper(spools))
            by_item = {one.record.item: one for one in done}
            return [self._divergence([by_item[record.item] for record in pair], spools) for pair in pairs]

    def grid(self, chosen: Sequence[ChosenEpisode]) -> list[FilmOutcome]:
        """Make one film of all the episodes beside each other; each that has ended shows its end."""
        self.check()
        if len(chosen) > MOST_SCENES:
            raise LramError(
                f"a grid of {len(chosen)} episodes shows nothing; choose up to {MOST_SCENES} with --agent, "
                "--task and --episodes"
            )
        spools: dict[WorkItem, Spool] = {}
        with _closing(spools):
            done = self._replay([one.record for one in chosen], _keeper(spools))
            title = f"grid of {len(chosen)} episodes"
            if refused := [f"{_title(one.record)}: {text}" for one in done if (text := _refusal(one))]:
                return [FilmOutcome(title, None, "; ".join(refused))]
            scenes = [Scene.of(one.record, spools[one.record.item]) for one in chosen]
            last = max(len(scene.spool) for scene in scenes) - 1
            frames = in_grid(scenes, self._beside, self._steps(0, last))
            shown = [_filmed(one.record, one.why) for one in chosen]
            return [FilmOutcome(title, self._place.write(frames, ["grid"], "grid", shown))]

    def _steps(self, first: int, last: int) -> list[int]:
        """Return the steps that are shown: those of which there are images, and the first and last."""
        every = self.settings.every
        return sorted({first, *range(-(-first // every) * every, last, every), last})

    @property
    def _beside(self) -> int:
        return self.settings.size or 240

    def _divergence(self, pair: Sequence[Replayed], spools: Mapping[WorkItem, Spool]) -> FilmOutcome:
        records = [one.record for one in pair]
        first, second = records
        title = f"{first.agent} and {second.agent} on {first.task}, episode {first.episode}"
        if refused := [f"{one.record.agent}: {text}" for one in pair if (text := _refusal(one))]:
            return FilmOutcome(title, None, "; ".join(refused))
        one, other = (spools[record.item] for record in records)
        step = first_divergence(one.moments, other.moments)
        if step is None:
            return FilmOutcome(
                title, None, "they do the same in every step, so there is no divergence to show"
            )
        scenes = [Scene.of(record, spools[record.item], step) for record in records]
        last = max(len(one), len(other)) - 1
        steps = self._steps(max(0, step - BEFORE), min(last, step + AFTER))
        shown = [_filmed(record, "first divergence") for record in records]
        words = [first.agent, "and", second.agent, first.task, first.episode]
        frames = in_grid(scenes, self._beside, steps)
        entry = self._place.write(frames, words, "divergence", shown, step)
        return FilmOutcome(title, entry, note=f"they first differ at step {step}")

    def _replay(
        self, records: Sequence[EpisodeRecord], take: Callable[[Replayed, Spool], None]
    ) -> list[Replayed]:
        """Replay ``records``; ``take`` is given what agrees with its record, and closes its spool."""
        camera = Camera(self.run.plan, self.settings.every)

        def replayed(one: Replayed) -> None:
            spool = camera.take(one.record.item)
            if spool is None:
                return
            if one.differences:
                spool.close()
            else:
                take(one, spool)

        domains = {record.task.partition("/")[0] for record in records}
        try:
            return replay(
                self.run,
                records,
                agents=self.agents,
                machine=self.machine,
                trust=self.trust,
                progress=self.progress,
                observer=camera,
                on_replayed=replayed,
                around=lambda interpreters: rendering(domains, interpreters),
                on_agents=camera.meet,
                command="lram film",
            )
        finally:
            camera.close()


@contextmanager
def _closing(spools: Mapping[WorkItem, Spool]) -> Iterator[None]:
    """Close at the end what ``spools`` holds then."""
    try:
        yield
    finally:
        for spool in spools.values():
            spool.close()


def _keeper(spools: dict[WorkItem, Spool]) -> Callable[[Replayed, Spool], None]:
    def keep(replayed: Replayed, spool: Spool) -> None:
        spools[replayed.record.item] = spool

    return keep


def _refusal(one: Replayed) -> str:
    """Return why an episode is not filmed; empty where its replay is its record."""
    if not one.differences:
        return ""
    reason = f"the replay is not what was recorded: {'; '.join(one.differences)}"
    return f"{reason} (not as it was then: {'; '.join(one.conditions)})" if one.conditions else reason


def _filmed(record: EpisodeRecord, why: str) -> FilmedEpisode:
    assert record.episode_return is not None  # scored
    assert record.length is not None
    return FilmedEpisode(
        agent=record.agent,
        task=record.task,
        episode=record.episode,
        why=why,
        episode_return=record.episode_return,
        length=record.length,
        success=record.success_any,
        trajectory=record.trajectory,
    )


def _title(record: EpisodeRecord) -> str:
    return f"{record.agent} on {record.task}, episode {record.episode}"


def _reason_words(why: str) -> list[str]:
    """Return what a film's name says of why its episode was chosen."""
    return [] if why == "chosen" else [why]
