"""The command ``lram data``: import data sets into a trajectory store, look at it, verify and rebuild it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from lram.agents.signals import heeded
from lram.harness.cli.listings import Json
from lram.harness.cli.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.agents.trajectories.verification import Verified
    from lram.harness.collection.importing import ImportReport

EXIT_BAD_DATA = 1
_SHOWN = 20  # problems named on the screen; the JSON has all

app = App(
    name="data",
    help="Trajectories to learn from: import data sets, look at a store, verify it, rebuild its index.",
)


@app.command(name="import")
def import_(
    source: Annotated[Path, Parameter(help="A file or folder of a data set.")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="Folder of the store; an existing one is added to.")
    ],
    layout: Annotated[
        Literal["auto", "lram", "composuite", "robomimic", "minari"],
        Parameter(name="--format", help="Layout of the source (default: detected)."),
    ] = "auto",
    task: Annotated[
        str | None, Parameter(help="Task of everything in the source, where its names do not tell.")
    ] = None,
    tasks: Annotated[
        list[str] | None,
        Parameter(name=["--tasks", "-t"], help="Only these tasks, such as 'metaworld/*'.", negative=()),
    ] = None,
    limit: Annotated[int | None, Parameter(help="At most so many episodes of each task.")] = None,
    policy: Annotated[str, Parameter(help="Policy that acted (default: as the source says).")] = "",
    licence: Annotated[
        str, Parameter(name=["--licence", "--license"], help="Licence of the data, for the store's card.")
    ] = "",
    clip_actions: Annotated[
        bool, Parameter(help="Clip actions to [-1, 1]; otherwise those beyond are refused.", negative=())
    ] = False,
    action_bounds: Annotated[
        str | None,
        Parameter(
            help="LOW,HIGH: the source's range of actions; it is mapped to [-1, 1].",
            allow_leading_hyphen=True,
        ),
    ] = None,
    keep_rewards: Annotated[
        bool, Parameter(help="Keep the rewards of demonstrations as they are (robomimic).", negative=())
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
    skip_bad: Annotated[
        bool, Parameter(help="Import the rest where something is bad, name that, end with 1.", negative=())
    ] = False,
    json: Json = False,
) -> int:
    """Import a data set into a trajectory store.

    Layouts: 'lram' (the paper's reference implementation: a folder a task, a file an episode),
    'composuite' (CompoSuite's offline data from Dryad), 'robomimic' (demonstrations of robomimic and
    MimicGen) and 'minari' (Minari data sets, and stores of lram). docs/how-to/data.md tells what is
    converted.

    An episode that the store has already is not added again: an interrupted import continues when it is run
    again.

    Example: lram data import raw/stack_d0.hdf5 -o data/stack --licence 'CC BY 4.0'
    """
    from lram.agents.trajectories.readers import Options, detect
    from lram.harness.collection.importing import ImportTasks, import_data, selected

    if limit is not None and limit < 1:
        raise LramError("--limit must be 1 or more")
    if discrete_actions is not None and discrete_actions < 1:
        raise LramError("--discrete-actions must be 1 or more")
    options = Options(limit, policy, clip_actions, _bounds(action_bounds), keep_rewards, discrete_actions)
    wanted = ImportTasks(task, selected(tasks), target_return, reward_scale)
    with still(f"looking at {source}", quiet=json):
        name = detect(source) if layout == "auto" else layout
    said = {
        "made_by": "lram data import",
        "source": source.resolve().name,
        "format": name,
        "license": licence,
        "options": {key: value for key, value in asdict(options).items() if value},
    }
    with _Progress() as progress, still(lambda: f"{progress.episodes:,} episodes read", quiet=json):
        report = import_data(
            source, output, wanted, options, layout=name, skip_bad=skip_bad, card=said, seen=progress
        )
    if json:
        print_json(_import_facts(report))
    else:
        _show_import(report, output)
    return EXIT_BAD_DATA if report.problems else 0


def _bounds(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
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
            task: {"names": sorted(one.names), "episodes": one.episodes, "steps": one.steps}
            for task, one in report.tasks.items()
        },
        "episodes": report.episodes,
        "already_there": report.known,
        "notes": dict(report.notes),
        "problems": report.problems,
        "not_looked_at": {one.why: list(one.names) for one in report.skipped},
    }


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
    steps = sum(one.steps for one in report.tasks.values())
    print(f"imported: {_count(report.episodes, 'episode')}, {_count(steps, 'step')}")
    if report.known:
        print(f"already there: {_count(report.known, 'episode')}")
    for text, count in report.notes.items():
        if text not in LEFT_OUT:  # these are in the last line
            print(f"{count} {text}")
    _show_problems("left out", report.problems)
    print(f"store: {output}: {report.closing()}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _show_problems(what: str, problems: list[str]) -> None:
    for problem in problems[:_SHOWN]:
        print(f"{what}: {problem}")
    if len(problems) > _SHOWN:
        print(f"... and {len(problems) - _SHOWN} more; --json names all")


@app.command
def info(
    stores: Annotated[list[Path], Parameter(help="Folders of trajectory stores.")],
    /,
    *,
    quick: Annotated[
        bool, Parameter(help="Only what the index says: leave out how alike actions are.", negative=())
    ] = False,
    json: Json = False,
) -> None:
    """Show what trajectory stores hold: by domain, by task, and by who acted.

    'repeated' is the share of actions that equal the one before, and 'difference' the mean squared
    difference of consecutive actions (continuous ones; independent uniform actions would have 0.67).
    Where the one is high or the other small, a model that sees its last action can copy it instead of
    learning to act: this is why the paper leaves actions out of the context. 'score' is the normalised
    score of the mean return, where the task has a reference. Trajectories that are there more than once, in
    a store or in several of those named, are counted: they are one piece of evidence.
    """
    from lram.harness.collection.info import describe_stores

    with still("reading every action of the stores (--quick leaves that out)"):
        described = describe_stores(stores, quick=quick)
    if json:
        print_json([asdict(one) for one in described])
        return
    from lram.harness.cli.data_tables import show_store

    for one in described:
        show_store(one)


@app.command
def verify(
    stores: Annotated[list[Path], Parameter(help="Folders of trajectory stores.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Read every checksum and trajectory of stores; exit with 1 when something is bad.

    Trajectories that are there more than once, in a store or in several of those named, are counted; nothing
    is wrong with that. With --json several stores are a list.
    """
    from lram.agents.trajectories.verification import verified_all

    with still("reading every trajectory"):
        verdicts = verified_all(stores)
    if json:
        facts = [asdict(found) for found in verdicts]
        print_json(facts[0] if len(facts) == 1 else facts)
    else:
        for store, found in zip(stores, verdicts, strict=True):
            _show_verified(store, found)
    return EXIT_BAD_DATA if any(found.bad for found in verdicts) else 0


def _verdict(found: Verified) -> str:
    """Return what can be said of a whole store, but not of what has no checksum or no place in the index."""
    if found.bad:
        return _count(len(found.bad), "fault")
    if found.unsigned:
        return "no fault found, in what carries a checksum"
    return "no fault found, in what the index names" if found.unnamed or found.pending else "all good"


def _show_verified(store: Path, found: Verified) -> None:
    _show_problems("bad", found.bad)
    for text in found.repeats[:_SHOWN]:
        print(f"repeated: {text}")
    if len(found.repeats) > _SHOWN:
        print(f"... and {len(found.repeats) - _SHOWN} more tasks; --json names all")
    if found.pending:
        print(f"of a commit that goes on or was interrupted: {', '.join(found.pending)}")
    if found.unnamed:
        print(f"not in the index, and left where it is: {', '.join(found.unnamed)}")
    if found.unsigned:
        print(f"written by an earlier version, without a checksum: {', '.join(found.unsigned)}")
    if found.recorded:
        print(
            f"{found.recorded} of {_count(found.episodes, 'episode')} carry the checksum of what was played, "
            "and were compared with it"
        )
    verdict = _verdict(found)
    held = ", ".join(
        _count(number, what)
        for number, what in ((found.parts, "part"), (found.episodes, "episode"), (found.steps, "step"))
    )
    for other, number in found.shared.items():
        print(f"{number} of {_count(found.episodes, 'episode')} are also in {other}")
    print(f"{store}: {held}: {verdict}")


@app.command
def rebuild(
    store: Annotated[Path, Parameter(help="Folder of a trajectory store.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Rebuild a damaged or lost index of a store (and its card) from its parts.

    Each part is read whole and checked. The old index is kept beside the new one as
    index.jsonl.before-rebuild-N. Parts that are damaged, and parts that hold what others hold already, are
    moved to set-aside/ in the store. Nothing is deleted. Ends with 1 when a part was damaged.

    Example: lram data rebuild data/reach
    """
    from lram.agents.trajectories.rebuilding import rebuild

    with still("reading every part"):
        made = rebuild(store)
    if json:
        print_json(asdict(made))
        return EXIT_BAD_DATA if made.damaged else 0
    _show_problems("set aside", made.damaged)
    _show_problems("set aside", made.copies)
    if made.by_content:
        print(
            f"of {_count(len(made.by_content), 'part')} the old index had no checksum: their content was "
            "checked only"
        )
    for name in made.kept:
        print(f"kept: {store / name}")
    print(
        f"{store}: {_count(made.parts, 'part')}, {_count(made.episodes, 'episode')}, "
        f"{_count(made.steps, 'step')} in the index"
    )
    return EXIT_BAD_DATA if made.damaged else 0


COMMANDS: tuple[tuple[App | Callable[..., Any], str], ...] = ((app, "data"),)
