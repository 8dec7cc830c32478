"""``lram publish``: a folder to hand around, and where asked for its way to the Hugging Face hub."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.options import NormaliserOption, ResamplingSeedOption
from lram.harness.errors import LramError
from lram.harness.storage.listing import show_not_read
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.reports.publishing import Manifest


def publish(
    runs: Annotated[list[Path], Parameter(help="Folders of evaluations.")],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=["--output", "-o"], help="Folder of the publication; new, or an earlier one to replace."
        ),
    ],
    card: Annotated[
        Literal["dataset", "model"],
        Parameter(help="What README.md is the card of: the data of an evaluation, or the model it is about."),
    ] = "dataset",
    checkpoint: Annotated[
        Path | None,
        Parameter(help="With --card model: folder of the weights, which must be among the evaluated agents."),
    ] = None,
    title: Annotated[str, Parameter(help="Heading of the card.")] = "",
    licence: Annotated[
        str,
        Parameter(
            name=["--licence", "--license"],
            help="Licence of the publication, as the hub names it, such as mit or cc-by-4.0.",
        ),
    ] = "",
    benchmark: Annotated[
        str,
        Parameter(
            help="With --card model: ORG/NAME:TASK of a benchmark on the hub that the score is a result of; "
            "writes .eval_results/."
        ),
    ] = "",
    against: Annotated[
        list[str] | None,
        Parameter(
            name=["--baseline", "--against"], help="As of 'lram report'; repeat it for several.", negative=()
        ),
    ] = None,
    normaliser: NormaliserOption = "paper",
    seed: ResamplingSeedOption = 0,
    push: Annotated[
        str | None,
        Parameter(help="Also upload the folder to this repository of the Hugging Face hub, OWNER/NAME."),
    ] = None,
    public: Annotated[
        bool, Parameter(help="A repository that --push makes is public, not private.", negative=())
    ] = False,
    pull_request: Annotated[
        bool,
        Parameter(
            name="--pull-request", help="--push proposes the files, and changes nothing yet.", negative=()
        ),
    ] = False,
) -> int:
    """Make a folder to hand around: runs, report, provenance, digests, and a card for the Hugging Face hub.

    Names of users and machines and absolute paths are taken out of the copies; what was, manifest.json tells.
    Nothing is sent anywhere without --push, which needs 'lram-bench[hub]' and a token.

    Example: lram publish runs/first -o first-published
    """
    if (card == "model") != (checkpoint is not None):
        raise LramError(
            "--card model and --checkpoint FOLDER go together: the card names the weights' digest"
        )
    if (public or pull_request) and push is None:
        raise LramError("--public and --pull-request say how to upload; add --push OWNER/NAME")
    from lram.harness import hub
    from lram.reports.comparison.pairs import read_pairs
    from lram.reports.publishing import PublishRequest
    from lram.reports.publishing import publish as write_publication
    from lram.reports.publishing.manifest import MANIFEST

    api = hub.client() if push is not None else None
    with still("copying records, making the report"):
        show_not_read(runs)
        request = PublishRequest(
            runs,
            checkpoint,
            title,
            licence,
            benchmark,
            seed,
            normaliser,
            read_pairs((), against or (), _labels(runs) if against else ()),
        )
        manifest = write_publication(request, output)
    _tell(manifest, output, benchmark)
    if push is not None:
        repository = hub.HubRepository(push, card, public, pull_request)
        with still(f"uploading to {push}"):
            address = hub.push(api, output, repository, MANIFEST)
        print(f"pushed: {address}")
    return 0


def _labels(runs: list[Path]) -> list[str]:
    from lram.harness.storage.run_folder import load_runs

    return [agent.label for run in load_runs(runs) for agent in run.plan.agents]


def _tell(manifest: Manifest, output: Path, benchmark: str) -> None:
    """Say what was written, and what was taken out of it."""
    changes = sum((Counter(file.changes) for file in manifest.cleaned), Counter[str]())
    taken = ", ".join(f"{what} ({places} places)" for what, places in changes.items())
    print(f"publication: {output} ({len(manifest.files)} files)")
    print(f"taken out: {taken or 'nothing had to be'}")
    if manifest.card == "model" and not benchmark:
        print(
            "lram: no .eval_results/ was written: it names a benchmark of the hub (--benchmark)",
            file=sys.stderr,
        )
