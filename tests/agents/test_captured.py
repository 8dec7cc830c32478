"""The captured step without a GPU: passes are done again instead of played again, over the same memory."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from support.backbones import CONFIGS
from support.fake_gpu import DEVICE, fake_gpu
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lram.agents.api import AgentError
from lram.agents.backbones import captured
from lram.agents.backbones.captured import CapturedStep, record_graph, repeat
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.recording import recorded_here
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.states import State, copied, tensors
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.transformer import cache

ROWS, WIDTH = 4, 16
GROWING = {"transformer[full]", "transformer[full], window"}


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.inference_mode():
        yield


def backbone_of(name: str) -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone(CONFIGS[name]).eval()
    backbone.reset_parameters()
    for parameter in backbone.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone


class Passes:
    """Passes of random tokens, masked at random in every other one."""

    def __init__(self, seed: int = 1) -> None:
        self.draw, self.number = np.random.default_rng(seed), 0

    def next(self, tokens: int = 3) -> tuple[Tensor, Tensor | None]:
        self.number += 1
        x = torch.from_numpy(self.draw.standard_normal((ROWS, tokens, WIDTH)).astype(np.float32))
        if self.number % 2:
            return x, None
        return x, torch.from_numpy(self.draw.random((ROWS, tokens)) < 0.6)


def places(state: State) -> list[Any]:
    return [captured.place(one) for one in tensors(state)]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_gives_what_the_plain_step_gives(name: str) -> None:
    """To rounding: attention reads all slots at once, and not those in use of each row."""
    backbone, passes = backbone_of(name), Passes()
    step = CapturedStep(backbone, repeat)
    first, second = (backbone.initial_state(ROWS) for _ in range(2))
    plain, other = copied(first), copied(second)
    at = places(first)
    for number, tokens in enumerate((3, 3, 3, 3, 2, 1, 3)):
        if number == 3:
            for state in (first, plain):
                backbone.reset(state, [1, 2])
        x, valid = passes.next(tokens)
        y, first = step(x, first, valid)
        expected, plain = backbone.step(x, plain, valid)
        seen = slice(None) if valid is None else valid
        torch.testing.assert_close(y[seen], expected[seen], rtol=1e-5, atol=1e-5)
        _, second = step(-x, second, valid)
        _, other = backbone.step(-x, other, valid)
        assert places(first) == at
    for ours, theirs in ((first, plain), (second, other)):
        for one, expected in zip(tensors(ours), tensors(theirs), strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)


class _Operations(TorchDispatchMode):
    """What is done, with the shapes of what is given and the numbers that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = torch.utils._pytree.tree_map_only(Tensor, lambda one: one.shape, (args, kwargs))
        self.done.append((str(func), repr(shapes)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_recorded_depends_on_no_numbers(name: str) -> None:
    """Fresh rows, and rows of different pasts with other tokens and masks: the same operations."""
    backbone, passes = backbone_of(name), Passes(2)
    done = []
    for past in (0, 4):
        state = backbone.initial_state(ROWS)
        for _ in range(past):
            _, state = _step(backbone, passes, state)
        x, _ = passes.next()
        valid = torch.ones(ROWS, 3, dtype=torch.bool) if past else torch.zeros(ROWS, 3, dtype=torch.bool)
        ready = backbone.ready(state, 3)
        assert ready is not None
        with recorded_here(), _Operations() as operations:
            backbone.ready_step(x, ready, valid)
        done.append(operations.done)
    assert done[0] == done[1]
    asked = {"_local_scalar_dense", "is_nonzero", "nonzero", "unique", "masked_select"}
    assert not [name for name, _ in done[0] if name.split(".")[1] in asked]


def _step(backbone: Backbone, passes: Passes, state: State) -> tuple[Tensor, State]:
    x, valid = passes.next()
    return backbone.step(x, state, valid)


@pytest.mark.parametrize("name", sorted(GROWING))
def test_a_full_cache_grows_and_forgets_between_its_passes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound of its tokens on the host, as on a GPU; rows reset, and rows that idle."""
    monkeypatch.setattr(cache, "FIRST_SLOTS", 8)
    backbone, passes = backbone_of(name), Passes(3)
    plain = backbone.initial_state(ROWS)
    state = {**copied(plain), cache.BOUND: torch.zeros(ROWS, dtype=torch.int64)}
    step = CapturedStep(backbone, repeat)
    for number in range(25):
        if number in (6, 15):
            backbone.reset(plain, [0])
            backbone.reset(state, [0])
            assert state[cache.BOUND][0] == 0
        x, valid = passes.next()
        y, state = step(x, state, valid)
        expected, plain = backbone.step(x, plain, valid)
        seen = slice(None) if valid is None else valid
        torch.testing.assert_close(y[seen], expected[seen], rtol=1e-5, atol=1e-5)
        assert (state[cache.BOUND] >= state["count"]).all()
    torch.testing.assert_close(state["count"], plain["count"])
    assert state["keys"].shape[3] >= int(plain["count"].max())


def test_what_it_gave_stays_as_it_was() -> None:
    backbone, passes = backbone_of("gru"), Passes()
    step = CapturedStep(backbone, repeat)
    x, _ = passes.next()
    y, state = step(x, backbone.initial_state(ROWS), None)
    kept = y.clone()
    step(x + 1, state, None)
    assert torch.equal(y, kept)


def test_a_state_of_its_own_makes_a_graph_of_its_own_and_few_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captured, "MOST", 3)
    backbone, recorded = backbone_of("gru"), []
    step = CapturedStep(backbone, lambda run, state: recorded.append(1) or run)  # type: ignore[func-returns-value]
    x, states = torch.zeros(ROWS, 3, WIDTH), [backbone.initial_state(ROWS) for _ in range(4)]
    for state in [*states[:3], *states[:3]]:
        step(x, state, None)
    assert len(recorded) == 3
    for state in (states[3], states[1], states[0]):
        step(x, state, None)
    assert len(recorded) == 5  # the first one's had gone


class _Shifting(torch.nn.Module):
    """A state whose parts change places, as the last two tokens of a row would."""

    def __init__(self, sizes: int = 0) -> None:
        super().__init__()
        self.sizes = sizes

    def ready(self, state: State, tokens: int) -> State:
        return state

    def ready_step(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        newest, _ = state
        return x, (torch.cat([x[:, -1]] * (1 + self.sizes)), newest)


def test_a_state_that_hands_on_its_own_parts_is_written_in_the_right_order() -> None:
    step = CapturedStep(_Shifting(), repeat)  # type: ignore[arg-type]
    state: State = (torch.zeros(ROWS, WIDTH), torch.zeros(ROWS, WIDTH))
    for number in (1.0, 2.0, 3.0):
        _, state = step(torch.full((ROWS, 1, WIDTH), number), state, None)
    assert [float(one[0, 0]) for one in state] == [3.0, 2.0]


def test_a_state_whose_size_changes_is_refused() -> None:
    step = CapturedStep(_Shifting(1), repeat)  # type: ignore[arg-type]
    with pytest.raises(
        AgentError, match=r"a pass changes the sizes of a _Shifting's state; use the step form torch"
    ):
        step(torch.zeros(ROWS, 1, WIDTH), (torch.zeros(ROWS, WIDTH), torch.zeros(ROWS, WIDTH)), None)


def test_it_is_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(
        AgentError, match="CUDA graphs are of GPUs, and the weights are on cpu; use the step form torch"
    ):
        make_stepper(backbone_of("gru"), "captured")


def test_on_a_gpu_its_record_says_how_float32_products_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu() as copies:
        with DEVICE:
            backbone = build_backbone(CONFIGS["mingru"])
        assert "TF32 in convolutions" in make_stepper(backbone, "torch").detail
        assert make_stepper(backbone, "captured").detail.startswith("CUDA graphs of plain PyTorch")
        monkeypatch.setattr(captured, "place", id)
        step, state = CapturedStep(backbone, repeat), backbone.initial_state(2)
        for _ in range(2):
            _, state = step(torch.zeros(2, 3, WIDTH, device=DEVICE), state, None)
        assert copies.to_host == copies.waiting == []


def test_a_graph_is_recorded_on_its_device_after_trials_on_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """With doubles of CUDA's streams and graphs; then of a step that does what cannot be recorded."""
    graph, devices, given, modes = MagicMock(), list[torch.device](), list[State](), list[str]()
    doubles: dict[str, Any] = {
        "Stream": MagicMock(),
        "current_stream": MagicMock(),
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(devices.append(device)),
        "CUDAGraph": lambda: graph,
        "graph": lambda made, pool, capture_error_mode: nullcontext(modes.append(capture_error_mode)),
        "graph_pool_handle": lambda: (0, 1),
    }
    for name, double in doubles.items():
        monkeypatch.setattr(torch.cuda, name, double)

    def failing(state: State) -> None:
        given.append(state)
        if len(given) == 6:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with fake_gpu():
        state = (torch.zeros(ROWS, WIDTH, device=DEVICE),)
        record_graph(given.append, state)(state)
        graph.replay.assert_called_once_with()
        assert devices == [DEVICE]
        assert modes == ["thread_local"], "other threads wait for results meanwhile"
        assert [one is state for one in given] == [False, False, True]
        with pytest.raises(
            AgentError, match=r"\(operation not permitted when stream is capturing\); use the st"
        ):
            record_graph(failing, state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here")
@pytest.mark.parametrize("name", CONFIGS)
def test_graphs_give_what_the_plain_step_gives(name: str) -> None:
    backbone, passes = backbone_of(name).cuda(), Passes()
    step = make_stepper(backbone, "captured").call
    states = [backbone.initial_state(ROWS) for _ in range(2)]
    plain = [copied(state) for state in states]
    for number, tokens in enumerate((3, 3, 3, 3, 2, 1, 3)):
        x, valid = passes.next(tokens)
        x, valid = x.cuda(), None if valid is None else valid.cuda()
        for place in range(2):
            if number == 3:
                backbone.reset(states[place], [1, 2])
                backbone.reset(plain[place], [1, 2])
            y, states[place] = step(x, states[place], valid)
            expected, plain[place] = backbone.step(x, plain[place], valid)
            seen = slice(None) if valid is None else valid
            torch.testing.assert_close(y[seen], expected[seen], rtol=1e-3, atol=1e-4)
