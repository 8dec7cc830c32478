"""``lram export``: a model as a file that runs without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.options import terms
from lram.harness.cli.printing.output import median_text
from lram.harness.cli.printing.paths import writing
from lram.harness.waiting import still


def export(
    checkpoint: Annotated[
        str, Parameter(help="Folder of a checkpoint, or the name of a model that 'lram agents' lists.")
    ],
    /,
    *,
    to: Annotated[
        Literal["onnx", "torch-export"],
        Parameter(help="Format: onnx (extra 'export'), or a program of torch.export."),
    ],
    task: Annotated[
        str | None,
        Parameter(
            name=["--task", "-t"],
            help="The task to play: fixes observation, actions, reward scale and the return to ask for "
            "(default: the first that the model was trained on, where all of these are alike).",
        ),
    ] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the export; must be new.")],
    tolerance: Annotated[
        float,
        Parameter(help="Largest difference of a logit from the agent's, as a part of a decision's largest."),
    ] = 1e-4,
    time: Annotated[bool, Parameter(help="Time a decision beside the agent's own, with one thread.")] = True,
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Seed of the weights of an untrained model.")
    ] = 0,
) -> int:
    """Export one decision of an action model, its recurrent state going in and coming out.

    The folder has the graph, model.json and card.md (inputs, outputs, state, what was measured), and
    policy.py, which runs episodes with numpy and onnxruntime or torch alone. Before anything is kept,
    200 decisions of made-up episodes are compared with the agent's.

    Example: lram export checkpoints/mine --to onnx --task metaworld/reach-v3 -o exported
    """
    from lram.harness.exporting import EXPORTED, OURS, export_named, time_beside

    with writing(output), still(f"exporting {checkpoint}"):
        named = None if task is None else ",".join(terms([task], None))
        spec, found = export_named(checkpoint, named, to, output, tolerance=tolerance, seed=seed)
    if task is None:
        print(f"for {spec.id}, which its card names as trained on; --task names another")
    print(
        f"compared with the agent: {found.decisions} decisions of {found.episodes} made-up episodes, "
        + ("every action equal" if not found.ties else f"{found.ties} numbers of actions differ (ties)")
        + f", logits within {found.largest_difference:.2g} of the largest ({found.tolerance:g} is allowed)"
    )
    if time:
        with still("timing"):
            timed = time_beside(checkpoint, spec, output, seed=seed)
        ratio = timed[EXPORTED].median.median / timed[OURS].median.median
        print(
            f"a decision, one lane and thread, in ms: {median_text(timed[EXPORTED])} as exported, "
            f"{median_text(timed[OURS])} here (step: {found.step}); {ratio:.2f} times as long"
            + (", on a machine that is busy or uneven" if any(one.noisy for one in timed.values()) else "")
        )
    print(f"exported: {output}")
    return 0
