"""The Backbone contract, held by every kind in every form of its step."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import noisy_backbone
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.griffin import GriffinConfig
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.registry import BUILT_IN
from lram.agents.backbones.spec import COMPILED_PARTS
from lram.agents.backbones.states import put, state_bytes, take
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel
from lram.agents.model.presets import parse_preset

WIDTH = 32
RING = TransformerConfig(heads=4, positions="rotary", window=20, cache="ring")
WINDOW = TransformerConfig(heads=4, positions="learned", window=70, cache="recompute", max_positions=80)
CONFIGS = {
    "mlstm": ModelConfig(WIDTH, 2, backbone=XLSTMConfig()),
    "mlstm and slstm": ModelConfig(WIDTH, 3, backbone=XLSTMConfig(slstm_at=(0, 2))),
    "mamba": ModelConfig(WIDTH, 2, backbone=MambaConfig()),
    "transformer, ring": ModelConfig(WIDTH, 2, backbone=RING),
    "transformer, full": ModelConfig(WIDTH, 2, backbone=replace(RING, cache="full", window=None)),
    "transformer, full with restarts": ModelConfig(
        WIDTH, 2, backbone=replace(WINDOW, cache="full", window=40)
    ),
    "transformer, learned window": ModelConfig(WIDTH, 2, backbone=WINDOW),
    "transformer, rotary window": ModelConfig(WIDTH, 2, backbone=replace(RING, window=70, cache="recompute")),
    "griffin, its attention": ModelConfig(
        WIDTH, 2, backbone=GriffinConfig(window=20, blocks=("attention", "recurrent"))
    ),
    # Every kind that is made of parts, with its own defaults.
    **{
        spec.kind: ModelConfig(WIDTH, 2, backbone=spec.options())
        for spec in BUILT_IN
        if spec.fused == COMPILED_PARTS
    },
}


def _backbone(config: ModelConfig) -> Backbone:
    return noisy_backbone(config).eval()


class Stepped:
    """A backbone whose ``step`` has the asked form; everything else is the backbone's own."""

    def __init__(self, backbone: Backbone, form: str) -> None:
        if form == "fused":
            pytest.importorskip("numba")
        self.backbone = backbone
        self.step = make_stepper(backbone, form).call

    def __call__(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)


def _stepped(kind: str, form: str = "torch", **changes: Any) -> Stepped:
    return Stepped(_backbone(replace(CONFIGS[kind], **changes)), form)


@pytest.fixture(params=list(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["torch", "fused"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backbone(kind: str, form: str) -> Stepped:
    return _stepped(kind, form)


def _in_pairs(name: str, values: Sequence[int]) -> pytest.MarkDecorator:
    """Each kind with each value, in one form or the other by turns: all pairs occur, in half of the cases."""
    forms = ("torch", "fused")
    cases = [
        (kind, value, forms[(place + number) % 2])
        for place, kind in enumerate(CONFIGS)
        for number, value in enumerate(values)
    ]
    return pytest.mark.parametrize(("kind", name, "form"), cases)


def _tokens(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, count, WIDTH, generator=torch.Generator().manual_seed(seed))


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for part in (state.values() if isinstance(state, dict) else state) for t in _tensors(part)]


def _bits(state: Any) -> list[bytes]:
    return [tensor.contiguous().numpy().tobytes() for tensor in _tensors(state)]


def _steps(backbone: Stepped, x: Tensor, size: int, state: Any = None) -> tuple[Tensor, Any]:
    state = backbone.initial_state(len(x)) if state is None else state
    outputs = []
    for first in range(0, x.shape[1], size):
        y, state = backbone.step(x[:, first : first + size], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@pytest.mark.slow
@_in_pairs("size", [1, 2, 3, 11, 66])
@torch.no_grad()
def test_steps_of_any_size_equal_forward(kind: str, form: str, size: int) -> None:
    backbone, x = _stepped(kind, form), _tokens(3, 66)
    torch.testing.assert_close(_steps(backbone, x, size)[0], backbone(x), rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_reset_row_is_fresh_bit_for_bit_and_others_keep_theirs(backbone: Stepped) -> None:
    _, state = _steps(backbone, _tokens(4, 33), 3)
    before = copy.deepcopy(state)
    backbone.reset(state, [2, 0])
    assert _bits(take(state, [0, 2])) == _bits(backbone.initial_state(2))
    assert _bits(take(state, [1, 3])) == _bits(take(before, [1, 3]))


@torch.no_grad()
def test_a_masked_token_leaves_the_state_as_it_was_bit_for_bit(backbone: Stepped) -> None:
    _, state = _steps(backbone, _tokens(3, 45), 3)
    before = _bits(take(state, [0, 2]))
    valid = torch.tensor([[False] * 3, [True] * 3, [False] * 3])
    y, state = backbone.step(1e3 * _tokens(3, 3, seed=1), state, valid)
    assert _bits(take(state, [0, 2])) == before
    assert torch.isfinite(y).all()


@pytest.mark.slow
@torch.no_grad()
def test_masked_tokens_are_as_if_they_were_not_there(backbone: Stepped) -> None:
    """Rows with holes in different places, against the same rows without the holes."""
    generator = torch.Generator().manual_seed(5)
    x, state = _tokens(3, 60), backbone.initial_state(3)
    valid = torch.rand(3, 60, generator=generator) < 0.6
    outputs = []
    for first in range(0, 60, 4):
        y, state = backbone.step(x[:, first : first + 4], state, valid[:, first : first + 4])
        outputs.append(y)
    y = torch.cat(outputs, dim=1)
    for row in range(3):
        alone = backbone(x[row : row + 1, valid[row]])
        torch.testing.assert_close(y[row : row + 1, valid[row]], alone, rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_row_does_not_depend_on_its_place_or_its_neighbours(backbone: Stepped) -> None:
    own = _tokens(1, 30)
    seen = set()
    for place in (0, 3, 7):
        x = _tokens(8, 30, seed=place)
        x[place] = own[0]
        y, _ = _steps(backbone, x, 3)
        seen.add(y[place].numpy().tobytes())
    assert len(seen) == 1


@torch.no_grad()
def test_rows_can_be_copied_out_and_put_back(backbone: Stepped) -> None:
    x = _tokens(4, 24)
    _, state = _steps(backbone, x[:, :12], 3)
    part = take(state, [3, 1])
    _, moved = _steps(backbone, x[:2, 12:], 3, state=take(state, [0, 2]))  # must not touch ``part``
    put(moved, [1, 0], part)
    y, _ = _steps(backbone, x[[1, 3], 12:], 3, state=moved)
    torch.testing.assert_close(y, backbone(x)[[1, 3], 12:], rtol=0, atol=2e-5)


@torch.no_grad()
def test_states_have_the_row_first_and_their_bytes_are_counted(backbone: Stepped) -> None:
    one, five = backbone.initial_state(1), backbone.initial_state(5)
    assert {tensor.shape[0] for tensor in _tensors(five)} == {5}
    assert state_bytes(five) == 5 * state_bytes(one)
    assert state_bytes(one) == sum(len(bits) for bits in _bits(one)) > 0


@torch.no_grad()
def test_states_stay_float32_under_bfloat16_weights(kind: str) -> None:
    backbone = Stepped(_backbone(CONFIGS[kind]).to(torch.bfloat16), "torch")
    y, state = _steps(backbone, _tokens(2, 9).bfloat16(), 3)
    assert y.dtype == torch.bfloat16
    assert {t.dtype for t in _tensors(state) if t.is_floating_point()} == {torch.float32}
    assert torch.isfinite(y).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 11])
@torch.no_grad()
def test_steps_in_bfloat16_stay_within_its_rounding_of_forward(kind: str, size: int) -> None:
    """Both round to 8 bits after each operation, at different places: a few percent of the scale."""
    backbone = Stepped(_backbone(CONFIGS[kind]).to(torch.bfloat16), "torch")
    x = _tokens(2, 66).bfloat16()
    y, exact = _steps(backbone, x, size)[0].float(), backbone(x).float()
    assert (y - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert (y - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.slow
@_in_pairs("times", [2, 8])
@torch.no_grad()
def test_steps_equal_forward_at_several_times_the_trained_length(kind: str, form: str, times: int) -> None:
    if "window" in kind:
        pytest.skip("the window has evicted tokens at this length, and forward has not")
    backbone, x = _stepped(kind, form), _tokens(2, 150 * times)
    size = 15 if times == 8 else 3  # sizes are compared above
    torch.testing.assert_close(_steps(backbone, x, size)[0], backbone(x), rtol=0, atol=5e-5)


@torch.no_grad()
def test_a_thousand_timesteps_stay_finite(kind: str, form: str) -> None:
    """Of three tokens each, and ten in a pass: sizes are compared above."""
    if kind == "mlstm and slstm":
        backbone = Stepped(_backbone(ModelConfig(WIDTH, 2, backbone=XLSTMConfig(slstm_at=(0,)))), form)
    else:  # a block: what one gives is normed before the next
        backbone = _stepped(kind, form, layers=1)
    state = backbone.initial_state(1)
    x = 3 * _tokens(1, 3000)
    for first in range(0, 3000, 30):
        y, state = backbone.step(x[:, first : first + 30], state)
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(tensor).all() for tensor in _tensors(state))


@pytest.mark.parametrize("kind", ["mlstm and slstm", "mamba", "transformer, ring"])
@torch.no_grad()
def test_a_long_past_is_read_in_long_passes(kind: str, form: str) -> None:
    backbone, x = _stepped(kind, form), _tokens(1, 700)
    torch.testing.assert_close(_steps(backbone, x, 350)[0], backbone(x), rtol=0, atol=5e-5)


@torch.no_grad()
def test_learned_positions_end_and_say_so() -> None:
    backbone = _stepped("transformer, learned window")
    with pytest.raises(AgentError, match="81 tokens are longer than the 80 learned positions"):
        backbone(_tokens(1, 81))


@pytest.mark.parametrize("kind", ["transformer, learned window", "transformer, rotary window"])
@torch.no_grad()
def test_a_full_window_is_read_as_if_the_stream_began_with_it(kind: str, form: str) -> None:
    backbone, x = _stepped(kind, form), _tokens(2, 100)
    y, _ = _steps(backbone, x, 5)
    torch.testing.assert_close(y[:, -1], backbone(x[:, -70:])[:, -1], rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_band_forgets_what_has_left_every_layers_window() -> None:
    backbone, x = _stepped("transformer, ring"), _tokens(1, 60)
    reach = 2 * (RING.window - 1)  # layers x (window - 1) tokens before the last
    other = x.clone()
    other[:, : 60 - reach - 1] *= -1  # a shift would vanish in the first norm
    torch.testing.assert_close(backbone(other)[:, -1], backbone(x)[:, -1], rtol=0, atol=0)
    other[:, 60 - reach - 1] *= -1
    assert (backbone(other)[:, -1] - backbone(x)[:, -1]).abs().max() > 1e-4


@torch.no_grad()
def test_a_fresh_slstm_row_beside_a_running_one_starts_as_it_would_alone(form: str) -> None:
    """Strongly closed input gates: asked of the whole batch, "is it fresh" gives NaN here."""
    plain = _backbone(ModelConfig(WIDTH, 1, backbone=XLSTMConfig(slstm_at=(0,))))
    plain.get_parameter("blocks.0.xlstm.slstm_cell._bias_").view(4, WIDTH)[0] = -130.0
    backbone = Stepped(plain, form)
    x = _tokens(2, 6)
    _, state = _steps(backbone, x[:, :3], 3)
    backbone.reset(state, [1])
    y, _ = backbone.step(x[:, 3:], state)
    alone = backbone(x[1:, 3:])
    torch.testing.assert_close(y[1:], alone, rtol=0, atol=1e-5)
    assert torch.isfinite(alone).all()


@torch.no_grad()
def test_sizes_that_are_no_multiple_of_a_vector_register_are_read_too(form: str) -> None:
    section = XLSTMConfig(slstm_at=(1,), qkv_block=2, conv_kernel=3)
    backbone = Stepped(_backbone(ModelConfig(44, 2, backbone=section)), form)
    x = torch.randn(2, 24, 44, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_steps(backbone, x, 3)[0], backbone(x), rtol=0, atol=2e-5)


@torch.no_grad()
def test_numbers_that_are_not_finite_are_not_hidden(backbone: Stepped) -> None:
    x = _tokens(1, 3)
    x[0, 1, 5] = torch.nan
    y, _ = backbone.step(x, backbone.initial_state(1))
    assert not torch.isfinite(y[0, 1:]).all()


REFERENCE_PRESETS = {
    ("xlstm_medium", "[1:0]"): "xlstm-16M",
    ("xlstm_mediumplus", "[1:0]"): "xlstm[1:0]-48M",
    ("xlstm_large", "[1:0]"): "xlstm-110M",
    ("xlstm_huge", "[1:0]"): "xlstm-206M",
    ("xlstm_hugeplus", "[1:0]"): "xlstm-408M",
    ("xlstm_medium", "[7:1] at 1"): "xlstm[7:1]-16M",
    ("xlstm_mediumplus", "[7:1] at 1,3"): "xlstm[7:1]-48M",
    ("xlstm_large", "[7:1] at 1,3"): "xlstm[7:1]-110M",
    ("xlstm_huge", "[7:1] at 1,3,5"): "xlstm[7:1]-206M",
    ("mamba_medium", ""): "mamba-16M",
    ("mamba_mediumplus", ""): "mamba-48M",
    ("mamba_large", ""): "mamba-110M",
    ("mamba_huge", ""): "mamba-206M",
    ("mamba_hugeplus", ""): "mamba-408M",
    ("dt_medium_64", ""): "transformer-16M",
    ("dt_mediumplus_64", ""): "transformer-48M",
    ("dt_largeplus_64", ""): "transformer-110M",
    ("dt_huge", ""): "transformer-206M",
    ("dt_hugeplus", ""): "transformer-408M",
}


@pytest.mark.parametrize(("reference", "preset"), REFERENCE_PRESETS.items(), ids=REFERENCE_PRESETS.values())
def test_presets_have_as_many_weights_as_the_references(reference: tuple[str, str], preset: str) -> None:
    path = Path(__file__).parents[1] / "data" / "golden" / "param_counts.json"
    counts = {(row["preset"], row["variant"]): row for row in json.loads(path.read_text())}
    with torch.device("meta"):
        model = ActionModel(parse_preset(preset))
    # The reference counts GPT-2's one-row word table, which no output depends on; it is not in ours.
    unused = model.config.width if preset.startswith("transformer") else 0
    assert model.parameter_count == counts[reference]["total_used_in_default_config"] - unused


@pytest.mark.parametrize("preset", ["xlstm-1M", "xlstm[7:1]-1M", "mamba-1M", "transformer[ring]-1M"])
def test_small_presets_have_a_million_weights_each(preset: str) -> None:
    with torch.device("meta"):
        model = ActionModel(parse_preset(preset))
    assert model.parameter_count == pytest.approx(1_000_000, rel=0.08)
