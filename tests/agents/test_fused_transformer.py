"""The Transformer's key/value caches, plain and fused: exact at any length, in passes of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.states import put, state_bytes, take
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.transformer.cache import FIRST_SLOTS
from lram.agents.backbones.transformer.plain import Transformer
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict

WIDTH, WINDOW = 48, 30
ROTARY = TransformerConfig(heads=4, positions="rotary", window=WINDOW, cache="full")
CONFIGS = {
    "ring": replace(ROTARY, cache="ring"),
    "full, rotary": ROTARY,
    "full, learned": replace(ROTARY, positions="learned", max_positions=WINDOW),
    "full, no window": replace(ROTARY, window=None),
}
RESTARTING = ["full, rotary", "full, learned"]
Step = Callable[[Tensor, Any, "Tensor | None"], tuple[Tensor, Any]]


@pytest.fixture(params=["torch", "fused"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "fused":
        pytest.importorskip("numba")
    return str(request.param)


def _backbone(section: TransformerConfig, width: int = WIDTH) -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Transformer(ModelConfig(width, 2, backbone=section))
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone.eval()


def _step(backbone: Transformer, form: str) -> Step:
    if form == "torch":
        return backbone.step
    from lram.agents.backbones.transformer.fused import FusedTransformer

    return FusedTransformer(backbone, 24)


def _tokens(rows: int, count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(rows, count, width, generator=torch.Generator().manual_seed(seed))


def _run(step: Step, x: Tensor, size: int, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    for first in range(0, x.shape[1], size):
        y, state = step(x[:, first : first + size], state, None)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


@pytest.mark.slow
# Every kind in either form with every size; of the lengths, one form reads the one and the other the other.
@pytest.mark.parametrize(
    ("kind", "size", "length", "form"),
    [
        (kind, size, windows * WINDOW, form)
        for place, kind in enumerate(CONFIGS)
        for number, size in enumerate((1, 2, 3, 11))
        for windows, form in zip(
            (1, 8), (("torch", "fused"), ("fused", "torch"))[(place + number) % 2], strict=True
        )
    ],
)
@torch.inference_mode()
def test_steps_equal_forward_up_to_eight_windows(kind: str, length: int, size: int, form: str) -> None:
    backbone, x = _backbone(CONFIGS[kind]), _tokens(2, length)
    y, _ = _run(_step(backbone, form), x, size, backbone.initial_state(2))
    torch.testing.assert_close(y, backbone(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", RESTARTING)
@torch.inference_mode()
def test_a_restarted_row_reads_its_newest_half_as_if_the_episode_began_there(kind: str, form: str) -> None:
    backbone, x = _backbone(CONFIGS[kind]), _tokens(1, 4 * WINDOW)
    y, _ = _run(_step(backbone, form), x, 3, backbone.initial_state(1))
    first, lengths = 0, set()
    for token in range(x.shape[1]):
        if token - first == WINDOW:
            first = token - WINDOW // 2
        seen = x[:, first : token + 1]
        lengths.add(seen.shape[1])
        torch.testing.assert_close(y[:, token], backbone(seen)[:, -1], rtol=0, atol=2e-5)
    assert lengths == set(range(1, WINDOW + 1))


@torch.inference_mode()
def test_until_the_window_is_full_no_token_is_forgotten(form: str) -> None:
    backbone, unlimited = _backbone(CONFIGS["full, rotary"]), _backbone(CONFIGS["full, no window"])
    x = _tokens(1, WINDOW + 1)
    expected, other = unlimited(x), unlimited(torch.cat([-x[:, :1], x[:, 1:]], dim=1))
    y, _ = _run(_step(backbone, form), x, 3, backbone.initial_state(1))
    torch.testing.assert_close(y[:, :WINDOW], expected[:, :WINDOW], rtol=0, atol=2e-5)
    assert (y - expected)[:, WINDOW].abs().max() > 1e-3
    assert (other - expected)[:, WINDOW - 1].abs().max() > 1e-3  # the first token does matter that late


@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_masked_tokens_are_as_if_they_were_not_there(kind: str, form: str) -> None:
    """Rows that fill up, and restart, at different times."""
    backbone = _backbone(CONFIGS[kind])
    step, x, state = _step(backbone, form), _tokens(3, 160), backbone.initial_state(3)
    shares = torch.tensor([[1.0], [0.6], [0.2]])
    valid = torch.rand(3, 160, generator=torch.Generator().manual_seed(5)) < shares
    outputs = []
    for first in range(0, 160, 4):
        part = slice(first, first + 4)
        y, state = step(x[:, part], state, valid[:, part])
        assert torch.isfinite(y).all()
        outputs.append(y)
    y = torch.cat(outputs, dim=1)
    for row in range(3):
        alone = backbone(x[row : row + 1, valid[row]])
        torch.testing.assert_close(y[row : row + 1, valid[row]], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_idle_rows_keep_their_bits_while_others_grow_and_restart(kind: str, form: str) -> None:
    backbone = _backbone(CONFIGS[kind])
    step = _step(backbone, form)
    _, state = _run(step, _tokens(3, 20), 4, backbone.initial_state(3))
    idle, valid = [0, 2], torch.tensor([[False] * 5, [True] * 5, [False] * 5])
    before = take(state, idle)
    for turn in range(20):
        y, state = step(1e3 * _tokens(3, 5, seed=turn), state, valid)
        assert torch.isfinite(y).all()
    after = take(state, idle)
    for name, tensor in before.items():
        slots = [slice(size) for size in tensor.shape]
        assert _bits(after[name][tuple(slots)]) == _bits(tensor)
    assert after["count"].tolist() == [20, 20]


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_a_row_has_the_same_bits_at_any_place_beside_neighbours_of_any_length(kind: str, form: str) -> None:
    backbone, own = _backbone(CONFIGS[kind]), _tokens(1, 99)
    step, seen = _step(backbone, form), set()
    for place, older in ((0, 0), (3, 13), (7, 200)):
        x, before = _tokens(8, 99, seed=place), _tokens(8, older, seed=place + 1)
        x[place] = own[0]
        state = backbone.initial_state(8)
        if older:
            _, state = _run(step, before, 50, state)
            backbone.reset(state, [place, (place + 3) % 8])
        y, _ = _run(step, x, 3, state)
        seen.add(_bits(y[place]))
    assert len(seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_rows_move_between_states_whose_caches_have_grown_differently(kind: str, form: str) -> None:
    backbone, x = _backbone(CONFIGS[kind]), _tokens(2, 190)
    step, expected = _step(backbone, form), backbone(x)
    _, old = _run(step, x[:, :150], 3, backbone.initial_state(2))
    _, young = _run(step, x[:, :10], 3, backbone.initial_state(2))

    into_young, into_old = take(young, [0, 1]), take(old, [0, 1])
    put(into_young, [1], take(old, [1]))
    put(into_old, [0], take(young, [0]))
    for mixed in (into_young, into_old):
        row_0, row_1 = x[0, 10:50], x[1, 150:]
        y, _ = _run(step, torch.stack([row_0, row_1]), 3, mixed)
        torch.testing.assert_close(y[0], expected[0, 10:50], rtol=0, atol=2e-5)
        torch.testing.assert_close(y[1], expected[1, 150:], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@torch.inference_mode()
def test_a_long_past_can_be_read_at_once_and_continued(kind: str, form: str) -> None:
    backbone, x = _backbone(CONFIGS[kind]), _tokens(2, 1300)
    step, expected = _step(backbone, form), backbone(x)
    y, state = step(x[:, :1200], backbone.initial_state(2), None)
    torch.testing.assert_close(y, expected[:, :1200], rtol=0, atol=5e-5)
    y, state = _run(step, x[:, 1200:], 7, state)
    torch.testing.assert_close(y, expected[:, 1200:], rtol=0, atol=5e-5)


@torch.inference_mode()
def test_the_memory_of_a_full_cache_doubles_and_ends_at_the_window(form: str) -> None:
    slots = {}
    for window in (None, 100):
        backbone = _backbone(replace(ROTARY, window=window))
        step, state, sizes = _step(backbone, form), backbone.initial_state(1), []
        for turn in range(60):
            _, state = step(_tokens(1, 3, seed=turn), state, None)
            sizes.append(state["keys"].shape[3])
        slots[window] = list(dict.fromkeys(sizes))
        tokens = 0 if window is None else WIDTH
        # Keys and values of two layers, the embedded tokens if there can be a restart, and the count.
        assert state_bytes(state) == 4 * sizes[-1] * (2 * 2 * WIDTH + tokens) + 8
    assert slots == {None: [FIRST_SLOTS, 2 * FIRST_SLOTS, 4 * FIRST_SLOTS], 100: [FIRST_SLOTS, 100]}


@pytest.mark.parametrize("cache", ["ring", "full", "recompute"])
@pytest.mark.parametrize(
    ("heads", "width", "positions"), [(3, 51, "learned"), (3, 66, "rotary"), (1, 10, "rotary")]
)
@torch.inference_mode()
def test_fused_steps_equal_plain_ones_at_odd_sizes(
    heads: int, width: int, positions: Any, cache: Any
) -> None:
    pytest.importorskip("numba")
    if (positions, cache) == ("learned", "ring"):
        pytest.skip("there is no such ring")
    section = TransformerConfig(heads, positions, window=37, cache=cache, max_positions=37)
    backbone = _backbone(section, width)
    plain, fused = backbone.initial_state(3), backbone.initial_state(3)
    step = _step(backbone, "fused")
    for turn in range(25):
        x = _tokens(3, 5, seed=turn, width=width)
        valid = torch.rand(3, 5, generator=torch.Generator().manual_seed(turn)) < 0.7
        expected, plain = backbone.step(x, plain, valid)
        y, fused = step(x, fused, valid)
        torch.testing.assert_close(y[valid], expected[valid], rtol=0, atol=5e-6)
    for name, tensor in plain.items():
        torch.testing.assert_close(fused[name], tensor, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (replace(ROTARY, cache="ring", window=None), "needs cache: full, and positions"),
        (replace(ROTARY, positions="learned", window=None), "needs cache: full, and positions"),
        (replace(ROTARY, positions="learned", window=1601), "longer than max_positions"),
        (replace(ROTARY, window=2), "shorter than the 3 tokens of a decision"),
    ],
)
def test_caches_that_cannot_be_are_refused(section: TransformerConfig, reason: str) -> None:
    with pytest.raises(AgentError, match=reason):
        ModelConfig(WIDTH, 1, backbone=section)


@pytest.mark.parametrize(
    ("kind", "text"), [("full, rotary", "cache of 30"), ("full, no window", "unbounded")]
)
def test_a_configuration_with_a_full_cache_is_read_back_and_described(kind: str, text: str) -> None:
    config = ModelConfig(WIDTH, 1, backbone=CONFIGS[kind])
    assert config_from_dict(config_to_dict(config)) == config
    assert text in config.describe()
