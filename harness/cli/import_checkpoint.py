"""``lram import-checkpoint``: a checkpoint from one of the paper's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lram.harness.cli.options import NewCheckpointOption
from lram.harness.cli.printing.paths import writing


def import_checkpoint(
    source: Annotated[
        Path,
        Parameter(
            help="A Stable-Baselines3 .zip, a state dict of torch.save (.pt, .pth, ...) or .safetensors."
        ),
    ],
    /,
    *,
    output: NewCheckpointOption,
    actions_in_context: Annotated[
        bool,
        Parameter(help="Past actions were tokens in training (action_condition=True).", negative=()),
    ] = False,
    decode: Annotated[
        Literal["center", "lower"],
        Parameter(
            help="Read an action as the center of its bin, or as its lower edge, as the reference does."
        ),
    ] = "center",
    heads: Annotated[
        int | None,
        Parameter(help="A Transformer's attention heads (default: those of the preset of its size)."),
    ] = None,
    context: Annotated[
        int | None, Parameter(help="Timesteps that a Transformer looks back (default: 50, as trained).")
    ] = None,
    positions: Annotated[
        Literal["learned", "constant"] | None,
        Parameter(
            help="A Transformer's: learned, one a token (default; global_pos_embds=True), or constant, the "
            "first one for every token."
        ),
    ] = None,
) -> int:
    """Convert a checkpoint of the paper's reference implementation (github.com/ml-jku/LRAM).

    Sizes are read from the weights, and nothing that the file holds is run. What the weights do not
    tell is printed as assumed, with the option that says otherwise.

    Example: lram import-checkpoint last_model.zip -o checkpoints/xlstm
    """
    from lram.agents.checkpoints.importing import import_checkpoint as convert
    from lram.agents.checkpoints.reference import ReferenceOptions

    options = ReferenceOptions(actions_in_context, decode, heads, context, positions)
    with writing(output):
        found = convert(source, output, options)
    config = found.config
    preset = f", with the sizes of the preset {config.name}" if config.name else ""
    print(f"architecture: {config.describe()}{preset}")
    print(f"from the weights: {_settings(found.read)}")
    print(f"assumed: {_settings(found.assumed)}")
    print(f"parameters: {found.model.parameter_count:,}, trained: yes")
    print(f"unused tensors dropped: {len(found.dropped)}, named in {output / 'config.json'}")
    print(f"checkpoint: {output}")
    return 0


def _settings(settings: Mapping[str, Any]) -> str:
    texts = {
        name: " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else value
        for name, value in settings.items()
    }
    return ", ".join(f"{name} {text}" for name, text in texts.items())
