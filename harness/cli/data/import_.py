"""``lram data import``: a data set into a trajectory store."""

from __future__ import annotations

import math
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lram.agents.signals import heeded
from lram.envs.registry import all_tasks
from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.options import (
    JsonOption,
    LicenceOption,
    OnlyTasksOption,
    TaskLimitOption,
    terms,
)
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.cli.printing.problems import counted, show_problems
from lram.harness.errors import LramError
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.agents.api import TaskSpec
    from lram.agents.trajectories.readers import Options
    from lram.harness.collection.importing import ImportReport


def import_(
    source: Annotated[
        str,
        Parameter(
            help="A file or folder of a data set, or minari:ID of one that Minari has on this machine."
        ),
    ],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="Folder of the store; an existing one is added to.")
    ],
    layout: Annotated[
        Literal["auto", "lram", "composuite", "robomimic", "minari", "rlds", "lerobot"],
        Parameter(name="--format", help="Layout of the source (default: detected)."),
    ] = "auto",
    task: Annotated[
        str | None, Parameter(help="Task of everything in the source, where its names do not tell.")
    ] = None,
    tasks: OnlyTasksOption = None,
    limit: TaskLimitOption = None,
    policy: Annotated[str, Parameter(help="Policy that acted (default: as the source says).")] = "",
    licence: LicenceOption = "",
    clip_actions: Annotated[
        bool, Parameter(help="Clip actions to [-1, 1]; otherwise those beyond are refused.", negative=())
    ] = False,
    action_bounds: Annotated[
        str | None,
        Parameter(
            help="LOW,HIGH: the source's range of actions; it is mapped to [-1, 1]. 'stats': the range that "
            "meta/stats.json tells (lerobot).",
            allow_leading_hyphen=True,
        ),
    ] = None,
    keep_rewards: Annotated[
        bool, Parameter(help="Keep the rewards of demonstrations as they are (robomimic).", negative=())
    ] = False,
    observation: Annotated[
        list[str] | None,
        Parameter(
            help="Key that is observed, such as image (rlds) or observation.image (lerobot); repeat it to "
            "put vectors side by side.",
            negative=(),
        ),
    ] = None,
    action: Annotated[
        list[str] | None,
        Parameter(help="Key that acts, such as world_vector (rlds, lerobot), likewise.", negative=()),
    ] = None,
    reward_at_end: Annotated[
        bool,
        Parameter(
            help="Give episodes without rewards 0, ..., 0, 1: all of them succeeded (lerobot).", negative=()
        ),
    ] = False,
    target_return: Annotated[
        float | None, Parameter(help="For a --task of your own: the return that a model is asked for.")
    ] = None,
    reward_scale: Annotated[
        float | None, Parameter(help="For a --task of your own: what a model's rewards are divided by.")
    ] = None,
    discrete_actions: Annotated[
        int | None,
        Parameter(help="For a --task of your own: number of discrete actions, if the data do not say."),
    ] = None,
    continuous_actions: Annotated[
        bool,
        Parameter(
            help="For a --task of your own: actions are numbers, also where they are whole ones.", negative=()
        ),
    ] = False,
    skip_bad: Annotated[
        bool, Parameter(help="Import the rest where something is bad, name that, end with 1.", negative=())
    ] = False,
    json: JsonOption = False,
) -> int:
    """Import a data set into a trajectory store.

    Layouts: 'lram' (the paper's reference implementation: a folder a task, a file an episode),
    'composuite' (CompoSuite's offline data from Dryad), 'robomimic' (demonstrations of robomimic and
    MimicGen), 'minari' (Minari data sets, and stores of lram), 'rlds' (RLDS data sets that TensorFlow
    Datasets prepared) and 'lerobot' (LeRobot data sets of version 3). docs/how-to/data.md tells what is
    converted.

    An episode that the store has already is not added again: an interrupted import continues when it is run
    again.

    Example: lram data import raw/stack_d0.hdf5 -o data/stack --licence 'CC BY 4.0'
    """
    from lram.agents.trajectories.readers import Options, detect, located
    from lram.harness.collection.importing import ImportTasks, import_data, selected

    if limit is not None and limit < 1:
        raise LramError("--limit must be 1 or more")
    if discrete_actions is not None and discrete_actions < 1:
        raise LramError("--discrete-actions must be 1 or more")
    if discrete_actions is not None and continuous_actions:
        raise LramError("actions are an index or numbers: give --discrete-actions or --continuous-actions")
    options = Options(
        limit,
        policy,
        clip_actions,
        _bounds(action_bounds),
        keep_rewards,
        discrete_actions,
        observation=tuple(observation or ()),
        action=tuple(action or ()),
        reward_at_end=reward_at_end,
        continuous_actions=continuous_actions,
    )
    wanted = ImportTasks(task, selected(terms(tasks, None) if tasks else None), target_return, reward_scale)
    with still(f"looking at {source}", quiet=json):
        place, called = located(source)
        name = detect(place) if layout == "auto" else layout
    _check_options(options, name)
    said = {
        "made_by": "lram data import",
        "source": called,
        "format": name,
        "license": licence,
        "options": {key: value for key, value in asdict(options).items() if value},
    }
    with _Progress() as progress, still(lambda: f"{progress.episodes:,} episodes read", quiet=json):
        report = import_data(
            place, output, wanted, options, layout=name, skip_bad=skip_bad, card=said, seen=progress
        )
    if json:
        print_json(_import_facts(report))
    else:
        _show_import(report, output)
    return EXIT_FAILED if report.problems else 0


def _check_options(options: Options, layout: str) -> None:
    """Raise LramError for options that the layout of the source has no use for."""
    for option, given, layouts in (
        ("--observation", options.observation, ("rlds", "lerobot")),
        ("--action", options.action, ("rlds", "lerobot")),
        ("--reward-at-end", options.reward_at_end, ("lerobot",)),
        ("--keep-rewards", options.keep_rewards, ("robomimic",)),
        ("--action-bounds stats", options.action_bounds == "stats", ("lerobot",)),
    ):
        if given and layout not in layouts:
            raise LramError(
                f"{option} is for data of the layout {' or '.join(layouts)}, and this source is {layout}; "
                "leave it out"
            )


def _bounds(text: str | None) -> tuple[float, float] | Literal["stats"] | None:
    if text is None:
        return None
    if text == "stats":
        return "stats"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise LramError(f"--action-bounds {text!r} is no range; write LOW,HIGH, such as --action-bounds=-2,2")
    return low, high


class _Progress:
    """A counter of episodes; between two of them it lets an interrupt through.

    An exception that a signal raises at any moment can come up in a callback of h5py, where Python drops
    it. So the first signal only asks for an end; a second one does not wait.
    """

    def __init__(self) -> None:
        self.episodes = 0
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Progress:
        for number in heeded():
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def __call__(self, report: ImportReport) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self.episodes += 1


def _import_facts(report: ImportReport) -> dict[str, Any]:
    return {
        "tasks": {
            task: {
                "names": sorted(one.names),
                "episodes": one.episodes,
                "steps": one.steps,
                "observation": one.spec.observation,
                "observation_shape": list(one.spec.observation_shape),
                "action": one.spec.action,
                "action_size": one.spec.action_size,
            }
            for task, one in report.tasks.items()
        },
        "episodes": report.episodes,
        "already_there": report.known,
        "notes": dict(report.notes),
        "problems": report.problems,
        "not_looked_at": {one.why: list(one.names) for one in report.skipped},
    }


def _kinds(task: TaskSpec) -> str:
    """Return what is observed in a task and what acts, in a few words."""
    seen = "images" if task.observation == "image" else f"a vector of {task.observation_shape[0]}"
    acts = (
        f"one of {task.action_size} actions"
        if task.action == "discrete"
        else counted(task.action_size, "number")
    )
    return f"{seen} observed, {acts} a decision"


def _show_import(report: ImportReport, output: Path) -> None:
    from lram.harness.collection.importing import LEFT_OUT

    if report.tasks:
        print_table(
            ("task", "in the source", "episodes", "steps"),
            [
                (task, ", ".join(sorted(one.names)), one.episodes, one.steps)
                for task, one in report.tasks.items()
            ],
        )
        print()
    for task, one in report.tasks.items():
        if task not in all_tasks():  # of the user's own, so that nothing else says what it is
            print(f"{task}: {_kinds(one.spec)}")
    steps = sum(one.steps for one in report.tasks.values())
    print(f"imported: {counted(report.episodes, 'episode')}, {counted(steps, 'step')}")
    if report.known:
        print(f"already there: {counted(report.known, 'episode')}")
    for text, count in report.notes.items():
        if text not in LEFT_OUT:  # these are in the last line
            print(f"{count} {text}")
    show_problems("left out", report.problems)
    print(f"store: {output}: {report.closing()}")
