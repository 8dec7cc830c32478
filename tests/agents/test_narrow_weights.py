"""Weights in bfloat16 and int8: what they are rounded to, the products on them, the models that have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError
from lram.agents.backbones.kernels import amx, linear
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.narrow_weights import int8_scale, packed, rounded, weights_kept_as
from lram.agents.backbones.rwkv7 import RWKV7Config
from lram.agents.backbones.states import tensors
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checks.equivalence import Extent, model_checks
from lram.agents.compute import NARROW, Compute, Narrow
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.rounding import matrices, model_bytes, round_model

CONFIGS = {
    "xlstm": ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(64, 2, backbone=MambaConfig()),
    "transformer": ModelConfig(64, 2, backbone=TransformerConfig(heads=4, positions="rotary", cache="full")),
    "rwkv7": ModelConfig(64, 2, backbone=RWKV7Config()),
}
needs_tiles = pytest.mark.skipif(amx.amx_problem() is not None, reason=str(amx.amx_problem()))
SHORT = Extent(lengths=(60,), decisions=25)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def weight(outputs: int = 40, inputs: int = 50) -> torch.Tensor:
    drawn = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
    drawn[3], drawn[5], drawn[7] = 0, drawn[5] * 1e-20, drawn[7] * 1e20
    return drawn


def rounded_model(kind: str, form: Narrow) -> ActionModel:
    model = build_model(CONFIGS[kind], seed=0)
    round_model(model, form)
    return model


def agent_of(model: ActionModel, form: Narrow, step: str = "fused") -> ModelAgent:
    compute = Compute(precision=form, step=step)  # type: ignore[arg-type]
    return ModelAgent(model, trained=False, description="test", digest="", compute=compute)


@pytest.mark.parametrize("form", NARROW)
def test_a_weight_moves_by_half_a_step_at_most_and_is_then_kept_without_loss(form: Narrow) -> None:
    w = weight()
    near = rounded(w, form)
    # bfloat16 has 8 digits; int8 has steps of a 127th of an output's largest weight.
    largest = w.abs().amax(dim=1, keepdim=True) * (1 + 2**-15)
    half_a_step = w.abs() / 2**8 if form == "bfloat16-weights" else largest / 127 / 2
    assert ((near - w).abs() <= half_a_step).all()
    assert not torch.equal(near, w)
    assert torch.equal(rounded(near, form), near)
    assert packed(w, form, 16) is None
    assert packed(near, form, 16) is not None


def test_scales_of_int8_have_few_bits_so_that_their_products_are_exact() -> None:
    scale = int8_scale(weight())
    assert scale[3] == 0
    mantissa, _ = torch.frexp(scale)
    assert torch.equal(mantissa * 2**17, (mantissa * 2**17).round())
    exact = scale.double() * 127
    assert torch.equal(exact.float().double(), exact)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", NARROW)
def test_weights_that_are_not_finite_cannot_be_rounded(form: Narrow, bad: float) -> None:
    w = weight()
    w[1, 2] = bad
    kept = form.removesuffix("-weights")
    with pytest.raises(AgentError, match=f"not finite cannot be kept as {kept}; use the precision float32"):
        rounded(w, form)


@pytest.mark.parametrize("form", NARROW)
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 16), (35, 61), (130, 64)])
def test_products_are_those_of_the_rounded_weights_and_their_bits_do_not_depend_on_the_tokens(
    form: Narrow, outputs: int, inputs: int
) -> None:
    w = rounded(weight(outputs, inputs), form)
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(outputs, generator=generator)
    x, base = (torch.randn(50, width, generator=generator) for width in (inputs, outputs))
    with weights_kept_as(form) as made:
        biased = PackedLinear(w, bias, 3, unit="vectors")
        gelu = PackedLinear(w, None, 3, "gelu", unit="vectors")
    assert (made.kept, made.left) == (2, 0)
    exact = F.linear(x.double(), w.double(), bias.double())
    scale = x.double().abs() @ w.double().abs().T + bias.double().abs()
    all_rows = biased(x)
    assert ((all_rows - exact).abs() / scale).max() < 1e-6
    summed = biased.add_to(base, x)
    assert ((summed - base - exact).abs() / (scale + base.abs())).max() < 1e-6
    assert ((gelu(x) - F.gelu(F.linear(x, w))).abs() / scale).max() < 1e-6
    for tokens in range(1, 26):
        assert torch.equal(biased(x[:tokens]), all_rows[:tokens]), tokens
    assert torch.equal(biased(x.view(5, 10, inputs)), all_rows.view(5, 10, outputs))


@needs_tiles
@pytest.mark.parametrize("form", NARROW)
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 16), (35, 61), (130, 64), (64, 33), (40, 130)])
def test_products_in_tiles_are_those_of_the_rounded_weights_for_any_number_of_tokens(
    form: Narrow, outputs: int, inputs: int
) -> None:
    w = rounded(weight(outputs, inputs), form)
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(outputs, generator=generator)
    x, base = (torch.randn(120, width, generator=generator) for width in (inputs, outputs))
    with weights_kept_as(form):
        tiles, plain = PackedLinear(w, bias, 3, unit="tiles"), PackedLinear(w, None, 3, unit="tiles")
    exact = F.linear(x.double(), w.double(), bias.double())
    scale = x.double().abs() @ w.double().abs().T + bias.double().abs()
    all_rows = tiles(x)
    # Activations of two parts instead of three would be off by 2e-6.
    assert ((all_rows - exact).abs() / scale).max() < 4e-7
    summed = tiles.add_to(base, x)
    assert ((summed - base - exact).abs() / (scale + base.abs())).max() < 4e-7
    assert ((plain(x) + bias - exact).abs() / scale).max() < 4e-7
    for tokens in range(1, 71):
        assert torch.equal(tiles(x[:tokens]), all_rows[:tokens]), tokens
        assert torch.equal(tiles.add_to(base[:tokens], x[:tokens]), summed[:tokens]), tokens


@needs_tiles
@pytest.mark.parametrize("form", NARROW)
def test_a_token_in_tiles_depends_on_no_other_and_what_is_not_finite_stays_so(form: Narrow) -> None:
    w = rounded(weight(), form)
    with weights_kept_as(form):
        product = PackedLinear(w, None, 3, unit="tiles")
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(1))
    before = product(x)
    x[4, 2], x[9, 3] = float("inf"), float("nan")
    after = product(x)
    others = [row for row in range(20) if row not in (4, 9)]
    assert torch.equal(after[others], before[others])
    assert after[9].isnan().all()
    assert after[4, w[:, 2] != 0].isinf().all()
    assert torch.equal(after[4].nan_to_num(7.0), F.linear(x, w)[4].nan_to_num(7.0)), (
        "0 times infinity is none"
    )


@needs_tiles
def test_tiles_take_an_activation_to_its_last_bit() -> None:
    w = torch.eye(32)
    x = torch.randn(48, 32, generator=torch.Generator().manual_seed(1)) * torch.logspace(-25, 30, 32)
    with weights_kept_as("bfloat16-weights"):
        assert torch.equal(PackedLinear(w, None, 3, unit="tiles")(x), x)


@needs_tiles
@pytest.mark.parametrize("form", NARROW)
def test_a_weight_off_by_one_is_found_in_each_place_of_a_tile(form: Narrow) -> None:
    w = rounded(weight(40, 50), form)
    with weights_kept_as(form):
        product = PackedLinear(w, None, 3, unit="tiles")
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(1))
    right, panels = product(x), product._product.matrix.panels  # type: ignore[attr-defined]
    for place in (0, 7, 31 * len(panels) // 64, len(panels) // 2 - 40):  # of outputs that are there
        panels[place] += 1
        assert not torch.equal(product(x), right), place
        panels[place] -= 1
    assert torch.equal(product(x), right)


@needs_tiles
def test_many_tokens_are_taken_in_tiles_and_few_are_not() -> None:
    w, x = rounded(weight(), "int8"), torch.randn(linear._WORTH_TILES, 50)
    with weights_kept_as("int8"):
        auto, vectors, tiles = (
            PackedLinear(w, None, 3, unit=unit)  # type: ignore[arg-type]
            for unit in ("auto", "vectors", "tiles")
        )
    assert torch.equal(auto(x), tiles(x))
    assert torch.equal(auto(x[1:]), vectors(x[1:]))
    assert not torch.equal(vectors(x), tiles(x)), "or the two cannot be told apart here"


def test_without_a_matrix_unit_tiles_are_refused_and_all_is_computed_by_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w, x = rounded(weight(), "int8"), torch.randn(40, 50)
    monkeypatch.setattr(amx, "amx_problem", lambda: "a reason")
    with weights_kept_as("int8"):
        auto, vectors = PackedLinear(w, None, 3), PackedLinear(w, None, 3, unit="vectors")
        with pytest.raises(AgentError, match="in tiles cannot be computed: a reason"):
            PackedLinear(w, None, 3, unit="tiles")
    assert torch.equal(auto(x), vectors(x))


@pytest.mark.parametrize("missing", ["amx-bf16", "amx-tile"])
def test_what_numba_does_not_compile_for_is_not_used(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Codegen:
        def magic_tuple(self) -> tuple[str, str, str]:
            there = ("amx-tile", "amx-bf16", "avx512f", "avx512bw")
            return "x86_64", "any", ",".join(f"{'-' if one == missing else '+'}{one}" for one in there)

    class Target:
        def codegen(self) -> Codegen:
            return Codegen()

    monkeypatch.setattr(amx.cpu_target, "_toplevel_target_context", Target(), raising=False)
    assert amx.amx_problem.__wrapped__() is not None


@pytest.mark.parametrize("problem", [None, "the processor has none"])
def test_the_steps_description_names_the_matrix_unit_where_it_multiplies(
    problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every processor: making a step multiplies nothing yet."""
    monkeypatch.setattr(amx, "amx_problem", lambda: problem)
    unit = ", AMX from 8 tokens" if problem is None else ""
    detail = agent_of(rounded_model("mamba", "int8"), "int8").stepper.detail
    assert detail.startswith(f"fused kernels, weights in int8{unit}, numba")
    assert "AMX" not in make_stepper(rounded_model("mamba", "int8").backbone, "fused").detail
    few = rounded_model("mamba", "int8")
    for parameter in few.parameters():
        parameter.mul_(1.0001)  # so that no matrix is of that form any more
    assert "AMX" not in make_stepper(few.backbone, "fused", weights="int8").detail


def test_a_weight_that_is_not_rounded_stays_float32_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "amx_problem", lambda: "a reason")
    w, x = weight(), torch.randn(3, 50)
    with weights_kept_as("int8") as made:
        PackedLinear(rounded(w, "int8"), None, 3)
        product = PackedLinear(w, None, 3)
    assert str(made) == "weights in int8, but 1 of 2 matrices in float32"
    assert torch.allclose(product(x), F.linear(x, w), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", NARROW)
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_step_that_keeps_them_passes_the_gate_at_float32s_tolerance(kind: str, form: Narrow) -> None:
    agent = agent_of(rounded_model(kind, form), form)
    said = "bfloat16" if form == "bfloat16-weights" else form
    unit = "" if amx.amx_problem() else ", AMX from 8 tokens"
    assert agent.stepper.detail.startswith(f"fused kernels, weights in {said}{unit}, numba")
    checks = model_checks(agent, SHORT)
    assert [check for check in checks if check.status == "failed"] == []
    assert max(check.limit for check in checks if check.limit is not None) < 1e-4


@pytest.mark.parametrize("form", NARROW)
def test_the_gate_finds_a_weight_that_is_off_by_the_last_bit_of_its_form(
    form: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*given: Any) -> Any:
        matrix = packed(*given)
        assert matrix is not None
        matrix.panels[7] += 1
        return matrix

    model = rounded_model("mamba", form)
    monkeypatch.setattr("lram.agents.backbones.narrow_weights.packed", wrong)
    found = [check for check in model_checks(agent_of(model, form), SHORT) if check.status == "failed"]
    assert "step equals forward" in {check.name for check in found}
    # Which what is allowed to a model of bfloat16 activations would hide.
    assert max(check.difference for check in found if check.difference is not None) < 5e-2


def test_a_scale_that_is_wrong_by_a_thousandth_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: Any) -> Any:
        matrix = packed(*given)
        assert matrix is not None
        return matrix._replace(scale=matrix.scale * np.float32(1.001))

    model = rounded_model("xlstm", "int8")
    monkeypatch.setattr("lram.agents.backbones.narrow_weights.packed", wrong)
    checks = model_checks(agent_of(model, "int8"), SHORT)
    assert "step equals forward" in {check.name for check in checks if check.status == "failed"}


@pytest.mark.parametrize("form", NARROW)
def test_an_agent_says_its_precision_and_is_one_and_the_same_in_every_form_of_the_step(
    form: Narrow, tmp_path: Path
) -> None:
    agents = {
        step: create_agent("mamba-1M", compute=Compute(precision=form, step=step))  # type: ignore[arg-type]
        for step in ("torch", "fused")
    }
    plain = create_agent("mamba-1M")
    infos = {step: agent.info for step, agent in agents.items()}
    assert infos["torch"].digest == infos["fused"].digest != plain.info.digest
    assert dict(infos["fused"].details)["precision"] == form
    assert infos["fused"].description.endswith(f", {form}")
    fused, torch_form = agents["fused"], agents["torch"]
    assert isinstance(fused, ModelAgent)
    assert isinstance(torch_form, ModelAgent)
    assert isinstance(plain, ModelAgent)
    share = fused.weight_bytes / plain.weight_bytes
    assert share == pytest.approx({"bfloat16-weights": 0.55, "int8": 0.37}[form], abs=0.05)
    assert torch_form.weight_bytes == plain.weight_bytes
    again = fused.with_model(fused.model)
    assert (again.precision, again.stepper.detail) == (form, fused.stepper.detail)


def test_all_but_matrices_stays_as_it_was() -> None:
    before, after = build_model(CONFIGS["rwkv7"], seed=0), rounded_model("rwkv7", "int8")
    changed = {id(w) for module in (after.backbone, after.head) for w in matrices(module)}
    changed.add(id(after.encoders.image.linear.weight))
    names = {name for name, one in after.named_parameters() if id(one) in changed}
    assert any(name.endswith(".down") for name in names), "the parts' own matrices are among them"
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if name not in names:
            assert torch.equal(old, new), name
    assert model_bytes(after, "int8") < model_bytes(after, "bfloat16-weights") < model_bytes(after, None)


def test_another_precision_has_the_same_rows_and_step_otherwise() -> None:
    compute = Compute()
    assert compute.narrow is None
    assert dataclasses.replace(compute, precision="bfloat16").narrow is None
    assert [dataclasses.replace(compute, precision=form).narrow for form in NARROW] == list(NARROW)


def test_float32_and_a_step_in_plain_pytorch_have_no_such_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> Any:
        raise AssertionError("packed")

    monkeypatch.setattr(linear, "_Narrow", none)
    make_stepper(build_model(CONFIGS["mamba"], seed=0).backbone, "fused")
    make_stepper(rounded_model("mamba", "int8").backbone, "torch", weights="int8")
    with pytest.raises(AssertionError, match="packed"):
        make_stepper(rounded_model("mamba", "int8").backbone, "fused", weights="int8")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_tiles
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("form", NARROW)
def test_tiles_divided_among_threads_give_the_same_bits(
    form: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_WORTH_THREADS", 1)
    w, x = rounded(weight(200, 70), form), torch.randn(50, 70)
    with weights_kept_as(form):
        product = PackedLinear(w, None, 3, unit="tiles")
    given = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        given.append(product(x))
    assert all(torch.equal(given[0], other) for other in given[1:])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", CONFIGS)
def test_rows_and_outputs_divided_among_threads_give_the_same_bits(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_WORTH_THREADS", 1)
    parts: list[int] = []
    in_parts = linear.in_parts

    def counted(call: Any, count: int, threads: int) -> None:
        parts.append(threads)
        in_parts(call, count, threads)

    monkeypatch.setattr(linear, "in_parts", counted)
    backbone = rounded_model(kind, "int8").backbone
    step = make_stepper(backbone, "fused", rows=8, weights="int8").call
    x = torch.randn(8, 3, 64, generator=torch.Generator().manual_seed(2))
    valid = torch.ones(8, 3, dtype=torch.bool)
    valid[::3, 0] = False
    given = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        state = backbone.initial_state(8)
        first, state = step(x, state, valid)
        first = first.clone()
        second, state = step(x, state, None)
        given.append([first, second.clone(), *(held.clone() for held in tensors(state))])
    assert {2, 3} >= set(parts) >= {2}
    for other in given[1:]:
        assert all(torch.equal(one, two) for one, two in zip(given[0], other, strict=True))
