"""minGRU and minLSTM of ``mingru-pytorch``: the layers and its language model's stack of blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import recording
import torch
from minGRU_pytorch.minGRU import minGRU
from minGRU_pytorch.minLM import minLM
from minGRU_pytorch.minLSTM import minLSTM
from recording import DECISION, ROWS, TOKENS, Timing, by_tokens, count_weights, perturb
from torch import Tensor, nn

PACKAGE = {
    "package": "minGRU-pytorch",
    "version": version("minGRU-pytorch"),
    "licence": "MIT",
    "source": "https://github.com/lucidrains/minGRU-pytorch",
}
NARROW = 16


def on_embeddings(model: minLM) -> minLM:
    """Make the model read embeddings and return the hidden states after its final norm."""
    model.token_emb = nn.Identity()
    model.to_logits = nn.Identity()
    return model.eval()


def step_of(model: minLM) -> Callable[[Tensor, int], Tensor]:
    """Return the model's step; it looks at the last token of what it is given, here the only one."""
    hidden = None

    def step(token: Tensor, _: int) -> Tensor:
        nonlocal hidden
        y, hidden = model(token, return_prev_hiddens=True, prev_hiddens=hidden)
        return y

    return step


def record(lstm: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One layer with expansion 1.5, the stack of two blocks without the convolution, one block with it."""
    sizes = {"num_tokens": 1, "dim": NARROW, "ff_mult": 2, "use_lstm": lstm}
    modules = {
        "layer": (minLSTM if lstm else minGRU)(NARROW, expansion_factor=1.5).eval(),
        "stack": on_embeddings(minLM(**sizes, depth=2)),
        "conv": on_embeddings(minLM(**sizes, depth=1, enable_conv=True)),
    }
    arrays = {}
    for part, module in modules.items():
        perturb(module)
        for name, value in module.named_parameters():
            if "to_hidden" in name:
                value.mul_(2)  # gates that open and close
        arrays |= {f"weight/{part}/{name}": value for name, value in module.state_dict().items()}
    x = torch.randn(ROWS, TOKENS, NARROW)
    hidden = None

    def step(token: Tensor, _: int) -> Tensor:
        nonlocal hidden
        y, hidden = modules["layer"](token, hidden, return_next_prev_hidden=True)
        return y

    arrays |= {"x": x, "y": modules["layer"](x), "y_step": by_tokens(step, x), "state": hidden}
    arrays |= {"stack_y": modules["stack"](x), "stack_y_step": by_tokens(step_of(modules["stack"]), x)}
    return arrays | {"conv_y": modules["conv"](x)}, {
        "width": NARROW,
        "expansion": 1.5,
        "feed_forward": 2 * NARROW,
        "conv": 3,
        "eps": torch.finfo(torch.float32).eps,
        "x": "y = one layer on x, stack_y = two blocks and the final norm, conv_y = one with the convolution",
    }


def time_stack(width: int, layers: int, lstm: bool) -> Timing:
    """The stack without convolution, token by token."""
    model = on_embeddings(minLM(num_tokens=1, dim=width, depth=layers, use_lstm=lstm))
    x = torch.randn(1, DECISION, width)
    step = step_of(model)
    return count_weights(model), lambda: by_tokens(step, x)


TIMED = {"mingru": partial(time_stack, lstm=False), "minlstm": partial(time_stack, lstm=True)}
"""What can be timed, by name."""

if __name__ == "__main__":
    recording.run(
        PACKAGE,
        {"mingru": lambda: record(lstm=False), "minlstm": lambda: record(lstm=True)},
        TIMED,
    )
