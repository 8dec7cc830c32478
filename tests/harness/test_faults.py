"""Killed, or refused by the disk, at one file operation after the other: each folder is continued or begun
again, to the same result.

A seeded sample of the operations of each command; ``tests/benchmarks/faults.py`` tries all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import KINDS, Server
from support.scenarios import OUT, SCENARIOS, trial

SAMPLES = {"eval": 8, "collect": 8, "train": 3, "latency": 2, "report": 2, "ablate": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    imports = "import torch, lram.harness.evaluation, lram.harness.collection.collect"
    with Server(tmp_path_factory.mktemp("faults"), imports) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_folder_survives_a_fault_at_any_file_operation(server: Server, tmp_path: Path, name: str) -> None:
    scenario, place = SCENARIOS[name], tmp_path / "whole"
    whole = place / OUT
    place.mkdir()
    for words in scenario.prepare(tmp_path):
        assert server.run(*words).code == 0
    undisturbed = server.run(*scenario.begin(tmp_path, whole), folder=place)
    assert undisturbed.code == 0, undisturbed.errors
    result = scenario.result(whole)
    faults = [(kind, at) for kind in KINDS for at in range(undisturbed.operations)]
    assert len(faults) > 30
    for number, (kind, at) in enumerate(random.Random(name).sample(faults, SAMPLES[name])):
        found = trial(server, scenario, tmp_path, tmp_path / f"trial-{number}", result, kind, at)
        assert not found.wrong, f"{kind} at operation {at} ({found.hit}): {found.wrong}"
