"""``lram embed``: hidden states of models over stored trajectories, by domain and task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import (
    STORES_OPTION,
    JsonOption,
    ModelsArgument,
    ModelThreadsOption,
    PoliciesOption,
    TimedDeviceOption,
)
from lram.harness.cli.printing.hints import next_report
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.errors import LramError


def embed(
    models: ModelsArgument = None,
    /,
    *,
    data: Annotated[list[Path] | None, STORES_OPTION] = None,
    tasks: Annotated[
        list[str] | None,
        Parameter(
            name=["--tasks", "-t"], help="Patterns of task ids; with ! before it: not those.", negative=()
        ),
    ] = None,
    policies: PoliciesOption = None,
    trajectories: Annotated[int, Parameter(help="Trajectories of each task, at most.")] = 10,
    states: Annotated[int, Parameter(help="Hidden states of each trajectory, at most.")] = 5,
    context: Annotated[
        int, Parameter(help="Timesteps that a state is computed from, its own the last.")
    ] = 50,
    umap: Annotated[
        bool | None, Parameter(help="Also project by UMAP (default: where umap-learn is installed).")
    ] = None,
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Of what is drawn, of untrained weights, and of UMAP.")
    ] = 0,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder of the embeddings; must be new.")
    ] = None,
    device: TimedDeviceOption = "cpu",
    threads: ModelThreadsOption = 1,
    json: JsonOption = False,
) -> int:
    """Take the hidden states that actions are read from, over trajectories, and say what they tell apart.

    All models read the same windows. Two numbers stand beside the picture, by domain and by task, each with
    an interval over trajectories: how often a state's nearest neighbour in another trajectory is of its own
    kind, and the silhouette.

    Example: lram embed small-mamba 'small-xlstm[7:1]' --data trajectories -o embeddings
    """
    from lram.harness.embedding.running import EmbeddingRequest, embed
    from lram.harness.machine import Machine
    from lram.reports.sections.embedding.analysis import summarise
    from lram.reports.sections.embedding.tables import printed_rows

    if output is None:
        raise LramError("give the folder of the embeddings with -o")
    request = EmbeddingRequest(
        models=models or [],
        stores=data or (),
        tasks=[part for text in tasks or ["*"] for part in text.split(",")],
        policies=policies or ("*",),
        trajectories=trajectories,
        states=states,
        context=context,
        seed=seed,
        umap=umap,
    )
    found = embed(request, output, Machine(device=device, threads=threads))
    result = summarise(found)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(result))
        return 0
    print_table(*printed_rows(result))
    if found.record.no_umap:
        print(f"\nno projection by UMAP: {found.record.no_umap}")
    print(f"\n{next_report(output)}")
    return 0
