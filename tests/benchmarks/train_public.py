"""Compare training steps with public implementations of the same models: ``train_public.py --help``.

A step is forward, backward and AdamW of the backbone on embedded tokens, three a timestep. All have the
same weights; before anything is timed, hidden states and the gradients of the inputs are compared. Timed
in one process, in turns, like ``lram bench train``; the environments are those of ``compare_public.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from compare_public import make_model
from ratios import print_ratios, with_ratios
from torch import Tensor, nn

from lram.agents.backbones.sequences import why_not_read
from lram.agents.compute import Compute, SequenceForm
from lram.harness.bench.train import (
    TrainBench,
    TrainCase,
    make_record,
    time_steps,
    training_step,
    write_train_record,
)
from lram.harness.cli.bench.train import print_train_record
from lram.harness.machine import threads
from lram.harness.timing.backbones import TimedBackbone
from lram.harness.timing.clock import check_device
from lram.harness.timing.load import LoadWatch
from lram.harness.timing.rounds import PreparedDecision, RoundEffort, TimedCandidate

AGREE = {"cpu": 1e-4, "cuda": 1e-2}
"""By how much outputs and gradients may differ, as a share of their norm; on a GPU kernels sum otherwise."""

PRESETS = {
    "xlstm": "xlstm[1:0]-1M,xlstm[7:1]-1M,xlstm[1:0]-16M,xlstm[7:1]-16M",
    "mamba": "mamba-1M,mamba-16M",
    "transformer": "transformer[full]-1M,transformer[full]-16M",
}

FORMS: tuple[SequenceForm, ...] = ("torch", "fused", "packages", "triton")
"""In which ours is timed, where it can be."""

# A backbone whose weights are trained, and how it reads embedded tokens.
Public = tuple[nn.Module, Callable[[Tensor], Tensor]]


def public_models(package: str, subject: TimedBackbone) -> dict[str, Public]:
    """Return the package's models with the weights of ``subject``."""
    if package == "xlstm":
        import public_xlstm

        stack = public_xlstm.make_stack(subject)
        return {"xlstm package, parallel form, sLSTM vanilla": (stack, stack)}
    if package == "mamba":
        import public_mamba

        if public_mamba.hf is None:
            return {"mamba-ssm, parallel scan": public_mamba.official_stack(subject)}
        mambapy, hf = public_mamba.mambapy_stack(subject), public_mamba.hf_model(subject)
        weight = nn.Parameter(subject.backbone.norm_f.weight.detach().clone())
        return {
            "mambapy, parallel scan": (mambapy, lambda x: F.rms_norm(mambapy(x), weight.shape, weight, 1e-5)),
            "transformers, sequential": (
                hf,
                lambda x: hf(inputs_embeds=x, use_cache=False).last_hidden_state,
            ),
        }
    import public_transformer

    gpt2 = public_transformer.make_gpt2(subject, 0)
    return {"GPT2Model, sdpa": (gpt2, lambda x: gpt2(inputs_embeds=x, use_cache=False).last_hidden_state)}


def results(read: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden states of ``x`` and the gradient of ``x``."""
    x = x.clone().requires_grad_()
    y = read(x)
    (gradient,) = torch.autograd.grad(y.square().mean(), x)
    return y.detach(), gradient


def candidates(
    package: str, preset: str, rows: int, context: int, compute: Compute, seed: int
) -> tuple[dict[TrainCase, TimedCandidate], tuple[str, ...]]:
    """Return the package's models and ours, and the names of the former; exit where they do not agree."""
    device = compute.device
    subject = make_model(preset, rows, seed, [context], device)
    most = AGREE[device.partition(":")[0]]
    ours = subject.backbone
    tokens = context * subject.work.tokens
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, tokens, subject.work.width, generator=generator).to(device)
    expected = results(ours, x[:2])
    models: dict[str, Public] = public_models(package, subject)
    for name, (_, read) in models.items():
        for got, one in zip(results(read, x[:2]), expected, strict=True):
            difference = float((got - one).norm() / one.norm())
            if not difference <= most:
                sys.exit(f"{name} and ours differ by {difference:.1e}, more than {most:.0e}")
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    chosen = {}

    def add(
        name: str, model: nn.Module, read: Callable[[Tensor], Tensor], form: SequenceForm = "auto"
    ) -> str:
        case = TrainCase(preset, name, rows, context, rows * tokens, parameters)

        def prepare() -> PreparedDecision:
            step = training_step(model, lambda: read(x).float().square().mean(), compute, form)
            return PreparedDecision(step)

        chosen[case] = TimedCandidate(case.name, prepare)
        return case.name

    public = tuple(add(name, model, read) for name, (model, read) in models.items())
    for form in FORMS:
        if why_not_read(ours, form, torch.device(device)) is None:
            add(form, ours, ours, form)
    return chosen, public


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", choices=sorted(PRESETS))
    parser.add_argument("--presets", help="comma list of our models (default: those of 1M and 16M)")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--context", type=int, default=50, help="timesteps of a sequence")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    check_device(options.device)
    compute = Compute(device=options.device, precision=options.precision)
    effort = RoundEffort(rounds=options.repeats, visit_most=1, limit_s=300.0, seed=options.seed)
    bench = TrainBench(seed=options.seed, compute=compute, effort=effort)
    watch, rows = LoadWatch(), []
    with threads(options.threads):
        for preset in (options.presets or PRESETS[options.package]).split(","):
            print(preset, file=sys.stderr)
            chosen, public = candidates(
                options.package, preset, options.sequences, options.context, compute, options.seed
            )
            measured = time_steps(chosen, effort, options.device, options.threads)
            rows += with_ratios(measured, {row.name: public for row in measured if row.name not in public})
    record = make_record(f"train, public {options.package}", bench, rows, watch.load())
    print_train_record(record)
    print_ratios(rows)
    if options.output:
        write_train_record(options.output, record)


if __name__ == "__main__":
    main()
