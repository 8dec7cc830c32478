"""``lram serve``: an agent for other processes, by websocket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.agents.compute import ROWS, Compute
from lram.agents.seed import check_seed
from lram.harness.cli.options import DeviceOption, PrecisionOption, RowsOption, StepOption, terms
from lram.harness.errors import LramError
from lram.harness.words import visible

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    agent: Annotated[str, Parameter(help="A name, preset, checkpoint folder or module:factory.")],
    /,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen at; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(name=["--port", "-p"], help="Port to listen at; 0 for a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        Parameter(help="File with the token that clients must show (default: a new one, printed)."),
    ] = None,
    no_token: Annotated[
        bool, Parameter(help="Let every user of this machine ask; not with another --host.", negative=())
    ] = False,
    task: Annotated[
        str | None,
        Parameter(help="Task of clients that only speak openpi's protocol (default: refuse them)."),
    ] = None,
    seed: Annotated[int, Parameter(name=["--seed", "-s"], help="Seed of an untrained model's weights.")] = 0,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    step: StepOption = "auto",
    rows: RowsOption = ROWS,
    threads: Annotated[int, Parameter(help="Threads for a model.")] = 1,
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], help="Do not tell of clients that come and go.", negative=())
    ] = False,
) -> int:
    """Offer an agent to other processes, by websocket and msgpack, until Ctrl-C.

    Any lram names it as an agent: lram eval ws://127.0.0.1:8000 --tasks ..., with the token in the
    environment variable LRAM_SERVE_TOKEN. Clients of openpi's protocol are answered for --task. A model that
    does not act as it was trained is refused, as 'lram eval' refuses it.

    Example: lram serve small-mamba --port 8000
    """
    from lram.agents.adapters.served.token import VARIABLE, read_token
    from lram.harness.gate.equivalence import pass_gate
    from lram.harness.machine import threads as with_threads
    from lram.harness.plan import build_agent, labelled_specs
    from lram.harness.rollout.translation import task_spec
    from lram.harness.selecting import selected
    from lram.harness.serving import AgentServer, make_token
    from lram.harness.storage.records import PlannedTask

    check_seed(seed)
    if threads < 1 or not 0 <= port < 1 << 16:
        raise LramError("--threads must be 1 or more, and --port 0 to 65535")
    if no_token and (token_file is not None or host not in _LOOPBACK):
        raise LramError("--no-token goes with a --host of this machine alone, and not with --token-file")
    token = "" if no_token else read_token(token_file) if token_file else make_token()
    tasks = [] if task is None else [task_spec(PlannedTask(one, "")) for one in selected(terms([task], None))]
    if len(tasks) > 1:
        raise LramError(f"--task names {len(tasks)} tasks; clients of openpi's protocol play one")
    ((label, spec),) = labelled_specs([agent]).items()
    built = build_agent(spec, seed, Compute(device, precision, step, rows))
    if tasks and (reason := built.refuses(tasks[0])):
        raise LramError(f"{label} does not play {tasks[0].id}: {reason}")
    with with_threads(threads):
        pass_gate({label: built})

    def say(text: str) -> None:
        if not quiet:
            print(visible(text), file=sys.stderr, flush=True)

    server = AgentServer(
        built,
        host=host,
        port=port,
        token=token,
        task=tasks[0] if tasks else None,
        seed=seed,
        threads=threads,
        say=say,
    )
    with server:
        shown = f"[{host}]" if ":" in host else host
        print(f"{label} is served at ws://{shown}:{server.port} until Ctrl-C")
        if token and token_file is None:
            print(f"{VARIABLE}={token}")
        sys.stdout.flush()
        try:
            server.wait()
        except KeyboardInterrupt:
            say("stopped")
    return 0
