"""Seeds that no record can carry are refused in one sentence, wherever one is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lram.agents.api import AgentError
from lram.harness.bench.run import ModelBench, bench_models
from lram.harness.bench.train import TrainBench, bench_training
from lram.harness.errors import LramError
from lram.harness.extrapolation.planning import ExtrapolationRequest, plan_of
from lram.harness.latency.plan import LatencyRequest
from lram.harness.machine import Machine
from lram.harness.plan import RunRequest, make_plan
from lram.reports import summarise, write_report

TAKERS: dict[str, Callable[[int, Path], object]] = {
    "eval": lambda seed, _: make_plan(RunRequest(agents="random", tasks="toy/reach", seed=seed)),
    "latency": lambda seed, _: LatencyRequest(agents=["random"], seed=seed).check(),
    "extrapolate": lambda seed, _: plan_of(ExtrapolationRequest(agents=["random"], seed=seed), Machine()),
    "bench model": lambda seed, _: bench_models(ModelBench(seed=seed)),
    "bench train": lambda seed, _: bench_training(TrainBench(seed=seed)),
    "report": lambda seed, folder: write_report([], folder / "report", seed=seed),
    "summarise": lambda seed, _: summarise([], empty=True, seed=seed),
}


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
@pytest.mark.parametrize("taker", TAKERS)
def test_a_seed_that_records_cannot_carry_is_refused(taker: str, seed: int, tmp_path: Path) -> None:
    with pytest.raises((LramError, AgentError), match=rf"^the seed is {seed}; it must be 0 or more"):
        TAKERS[taker](seed, tmp_path)
