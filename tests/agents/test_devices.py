"""Devices: those that are not there are named beside those that are, and agents share a list of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lram.agents import devices
from lram.agents.api import AgentError
from lram.agents.compute import Compute
from lram.agents.devices import find_device, gpu_model, placed_in_turn, split_devices

Show = Callable[[list[str]], None]


@pytest.fixture
def shown_gpus(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Let PyTorch seem to find these GPUs; nothing can be put on them."""

    def show(models: list[str]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(models))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: models[index])

    return show


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "cuda:-1", "cuda:x", "warp-drive", "meta", "cpu,cuda"])
def test_without_a_gpu_the_sentence_says_that_there_is_none(name: str, shown_gpus: Show) -> None:
    shown_gpus([])
    with pytest.raises(AgentError) as refused:
        find_device(name)
    assert str(refused.value) == (
        f"the device {name!r} cannot be used here; use cpu: PyTorch finds no GPU here ('lram doctor' tries "
        "what there is)"
    )


def test_with_gpus_the_sentence_names_each(shown_gpus: Show) -> None:
    shown_gpus(["Tesla A", "Tesla B"])
    with pytest.raises(AgentError) as refused:
        find_device("cuda:2")
    assert "'cuda:2' cannot be used here; use cpu, cuda:0 (Tesla A) or cuda:1 (Tesla B)" in str(refused.value)


def test_a_gpu_that_is_there_and_fails_is_not_called_absent(
    shown_gpus: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_gpus(["Tesla A", "Tesla B"])

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: out of\nmemory")

    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(
        AgentError, match="'cuda:1' is there and does not answer: CUDA error: out of memory; free"
    ):
        find_device("cuda:1")


def test_the_processor_is_found() -> None:
    assert find_device("cpu") == torch.device("cpu")


def test_a_gpu_is_called_by_its_model(shown_gpus: Show) -> None:
    shown_gpus(["Tesla A", "Tesla B"])
    assert [gpu_model(name) for name in ("cuda", "cuda:1", "cuda:2", "cpu")] == ["Tesla A", "Tesla B", "", ""]


def test_agents_take_the_devices_of_a_list_in_turn() -> None:
    assert placed_in_turn(["a", "b", "c"], "cuda:0, cuda:1") == {"a": "cuda:0", "b": "cuda:1", "c": "cuda:0"}
    assert placed_in_turn(["a", "b"], "cpu") == {"a": "cpu", "b": "cpu"}
    assert Compute(device="cuda:0,cuda:1", rows=16).on("cuda:1") == Compute(device="cuda:1", rows=16)


@pytest.mark.parametrize(("text", "told"), [("cuda:0,", "name none in one place"), ("cpu,cpu", "one twice")])
def test_a_list_with_a_fault_is_refused(text: str, told: str) -> None:
    with pytest.raises(AgentError, match=told):
        split_devices(text)
    with pytest.raises(AgentError, match=told):
        Compute(device=text)


def test_no_torch_is_loaded_for_names() -> None:
    assert "torch" not in vars(devices)
