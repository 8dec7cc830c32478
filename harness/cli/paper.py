"""``lram paper``: the paper's figures and tables, and what runs each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lram.agents.places import placed
from lram.harness.cli.exits import EXIT_INTERRUPTED
from lram.harness.cli.options import FLAT, JsonOption, parse_int_list
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.waiting import say
from lram.harness.words import command

if TYPE_CHECKING:
    from lram.harness.paper.items import PaperItem, Scale
    from lram.harness.paper.planning import PaperChoices, PaperPlan


@FLAT
@dataclass(frozen=True)
class PaperOptions:
    """What an item is run with, in place of what it has."""

    data: Annotated[
        list[Path] | None,
        Parameter(
            name=["--data", "-d"],
            help="Folders of trajectory stores, in place of what the item collects; needed at --scale full.",
            negative=(),
        ),
    ] = None
    tasks: Annotated[
        list[str] | None,
        Parameter(name=["--tasks", "-t"], help="What is played, in place of the item's tasks.", negative=()),
    ] = None
    model: Annotated[
        list[str] | None,
        Parameter(help="Models or checkpoints in place of the item's; repeat it for several.", negative=()),
    ] = None
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            help="section.field=value of the recipe, such as optimizer.updates=100; repeat it for several.",
            negative=(),
        ),
    ] = None
    seeds: Annotated[
        str | None, Parameter(help="Training seeds of a study, as 0,1,2, in place of the item's.")
    ] = None
    episodes: Annotated[
        int | None, Parameter(name=["--episodes", "-n"], help="Episodes a task and cell of a study.")
    ] = None
    jobs: Annotated[
        int | None, Parameter(name=["--jobs", "-j"], help="Cells of a study at the same time.")
    ] = None
    reuse: Annotated[
        list[Path] | None,
        Parameter(
            help="Folders of other items or studies: trajectories and trainings that one of them has made "
            "already are copied from it; repeat it for several.",
            negative=(),
        ),
    ] = None
    backend: Annotated[
        Literal["local", "ray"],
        Parameter(
            help="Where cells of a study are made: here, or on a Ray cluster (docs/how-to/cluster.md)."
        ),
    ] = "local"
    address: Annotated[str | None, Parameter(help="Address of the Ray cluster.")] = None

    def chosen(self, scale: Scale) -> PaperChoices:
        """Return them; LramError for options that do not go together."""
        from lram.harness.paper.planning import PaperChoices

        if self.address is not None and self.backend == "local":
            raise LramError("--address belongs to a cluster: add --backend ray")
        cluster = () if self.backend == "local" else ("--backend", self.backend)
        return PaperChoices(
            scale=scale,
            data=tuple(str(placed(path)) for path in self.data or ()),
            tasks=tuple(self.tasks or ()),
            models=tuple(self.model or ()),
            settings=tuple(self.set_ or ()),
            seeds=parse_int_list(self.seeds, "--seeds") if self.seeds is not None else (),
            episodes=self.episodes,
            cluster=(*cluster, *(("--address", self.address) if self.address is not None else ())),
            jobs=self.jobs,
            reuse=tuple(str(placed(path)) for path in self.reuse or ()),
        )


DEFAULT_OPTIONS = PaperOptions()


def paper(
    item: Annotated[
        str | None, Parameter(help="A figure or table of the list; without one, the list.")
    ] = None,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Folder of the item; the same command continues it. Without one, the item is described.",
        ),
    ] = None,
    scale: Annotated[
        Literal["laptop", "full"],
        Parameter(help="laptop: two cores, minutes to an hour. full: the paper's sizes and tasks, on GPUs."),
    ] = "laptop",
    options: PaperOptions = DEFAULT_OPTIONS,
    dry_run: Annotated[
        bool,
        Parameter(help="Print the commands that would be given, and the study; run nothing.", negative=()),
    ] = False,
    json: JsonOption = False,
) -> int:
    """List the figures and tables of the paper (arXiv 2410.22391), or run one into a folder.

    An item is run by commands that anybody can give, which are printed as they begin; what they make are
    ordinary folders of studies, sweeps and reports. Interrupt it whenever you like: the same command
    continues.

    Example: lram paper return-conditioning -o runs/return-conditioning --jobs 2
    """
    from lram.harness.paper.items import paper_item, paper_items

    if item is None:
        if output is not None or dry_run or options != DEFAULT_OPTIONS:
            raise LramError("name the item to run; 'lram paper' lists them")
        _list(paper_items(), scale, json=json)
        return 0
    found = paper_item(item)
    if output is None and not dry_run:
        if options != DEFAULT_OPTIONS:
            raise LramError(f"name a folder with -o to run {item}, or add --dry-run")
        _describe(found, json=json)
        return 0
    from lram.harness.paper.planning import plan_item

    choices = options.chosen(scale)
    folder = placed(output or found.key)
    plan = plan_item(found, folder, choices)
    if dry_run:
        _show(plan, json=json)
        return 0
    return _run(plan, folder, choices)


def _run(plan: PaperPlan, folder: Path, choices: PaperChoices) -> int:
    from lram.harness.cli import give
    from lram.harness.paper.running import run_item

    try:
        code = run_item(plan, folder, choices, give, say)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code:
        state = "interrupted" if code == EXIT_INTERRUPTED else "not ended"
        print(f"\n{state}; the same command continues {plan.item.key} in {folder}")
        return code
    print(f"\n{plan.item.key}: {folder / 'report'}")
    return 0


def _list(items: tuple[PaperItem, ...], scale: Scale, *, json: bool) -> None:
    if json:
        print_json([_facts(item) for item in items])
        return
    rows = [(item.key, _takes(item, scale), ", ".join(_needs(item, scale)), item.asks) for item in items]
    print_table(("item", f"takes at --scale {scale}", "needs", "asks"), rows)
    ready = sum(not item.missing for item in items)
    print(
        f"\n{ready} of {len(items)} can be run: lram paper ITEM -o FOLDER; 'lram paper ITEM' says "
        "what the paper did, what is drawn, and what differs"
    )


def _takes(item: PaperItem, scale: Scale) -> str:
    """Return what an item takes at a scale, in a few words."""
    how = item.laptop if scale == "laptop" else item.full
    if item.missing or how is None:
        return f"not there yet: {item.missing or 'no such scale'}"
    from lram.harness.paper.items import LaptopScale

    if isinstance(how, LaptopScale):
        return f"{how.minutes:g} min of one core ({how.known.partition(':')[0]})"
    return how.takes or _hours(item)


def _hours(item: PaperItem) -> str:
    from lram.harness.paper.planning import trainings

    assert item.full is not None
    count = trainings(item)
    low, high = (hours * count for hours in item.full.hours)
    return f"{count} trainings, {low:,.0f} to {high:,.0f} h of four A100 (extrapolated from the paper's)"


def _needs(item: PaperItem, scale: Scale) -> tuple[str, ...]:
    if scale == "laptop":
        return item.needs
    return item.full.needs if item.full is not None else ()


def _facts(item: PaperItem) -> dict[str, Any]:
    """Return what is known of an item, for programs; what runs it stands under its scales."""
    from lram.harness.paper.items import SCALES

    plain = asdict(item)
    kept = ("key", "title", "asks", "paper", "axes", "study", "missing")
    scales = {} if item.missing else {scale: _scale_facts(item, scale) for scale in SCALES}
    return {**{name: plain[name] for name in kept}, "scales": scales}


def _scale_facts(item: PaperItem, scale: Scale) -> dict[str, Any]:
    laptop = item.laptop if scale == "laptop" else None
    return {
        "takes": _takes(item, scale),
        "minutes": laptop.minutes if laptop is not None else None,
        "known": laptop.known if laptop is not None else None,
        "needs": list(_needs(item, scale)),
        "differs": [*item.differs, *item.at(scale).differs],
        "command": f"lram paper {item.key} --scale {scale} -o FOLDER",
    }


def _describe(item: PaperItem, *, json: bool) -> None:
    if json:
        print_json(_facts(item))
        return
    print(f"{item.title}\n  asks: {item.asks}\n  the paper: {item.paper}\n  drawn: {item.axes}")
    if item.missing:
        print(f"  not there yet: {item.missing}")
        return
    for scale, facts in _facts(item)["scales"].items():
        print(f"at --scale {scale}: {facts['command']}")
        known = f"; {facts['known']}" if (facts["known"] or "measured") != "measured" else ""
        print(f"  takes: {facts['takes']}{known}")
        print(f"  needs: {'; '.join(facts['needs']) or 'nothing else'}")
        for line in facts["differs"]:
            print(f"  differs: {line}")


def _show(plan: PaperPlan, *, json: bool) -> None:
    commands = [command(*step) for step in plan.steps]
    if json:
        print_json({"item": plan.item.key, "commands": commands, "files": dict(plan.files)})
        return
    for name, text in plan.files.items():
        print(f"# {name}\n{text}")
    print("\n".join(commands))
