"""Fused steps: the functions inside kernels, packed weights, and the choice of a form."""

from __future__ import annotations

import importlib
import os
import random
import runpy
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.states import tensors
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.model.config import ModelConfig
from lram.agents.model.encoders import ImageEncoder
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset

pytest.importorskip("numba", reason="fused steps need numba")

from lram.agents.backbones.kernels import compiler, files
from lram.agents.backbones.kernels.files import compiled_by_one, private_folder, read_kernel, write_kernel
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.model.compiled_images import FusedImageEncoder

X = np.linspace(-87, 88, 200_001).astype(np.float32)


def _apply(name: str, x: Any) -> Any:
    function = getattr(compiler, name)

    @compiler.numba.njit  # type: ignore[untyped-decorator]
    def each(x: Any, y: Any) -> None:
        for index in range(len(x)):
            y[index] = function(x[index])

    y = np.empty_like(x)
    each(x, y)
    return y


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("exp", np.exp),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softplus", lambda x: np.logaddexp(0, x)),
    ],
)
def test_elementary_functions_are_within_three_units_in_the_last_place(name: str, exact: Any) -> None:
    expected = exact(X.astype(np.float64))
    assert (np.abs(_apply(name, X) - expected) / expected).max() < 3e-7


@pytest.mark.parametrize(("name", "exact"), [("silu", lambda x: x / (1 + np.exp(-x))), ("tanh", np.tanh)])
def test_functions_that_cross_zero_are_within_rounding_of_their_scale(name: str, exact: Any) -> None:
    expected = exact(X.astype(np.float64))
    assert (np.abs(_apply(name, X) - expected) / np.maximum(np.abs(expected), 1)).max() < 3e-7


@pytest.mark.parametrize(("name", "exact"), [("tanh", np.tanh), ("expm1", np.expm1)])
def test_functions_keep_their_digits_near_zero(name: str, exact: Any) -> None:
    x = np.concatenate([np.geomspace(1e-30, 20, 100_001), -np.geomspace(1e-30, 20, 100_001)])
    x = x.astype(np.float32)
    expected = exact(x.astype(np.float64))
    assert (np.abs(_apply(name, x) - expected) / np.abs(expected)).max() < 4e-7


@pytest.mark.parametrize("name", ["exp", "sigmoid", "softplus", "silu", "tanh", "expm1"])
def test_elementary_functions_pass_nan_on_and_survive_infinity(name: str) -> None:
    nan, low, high = _apply(name, np.array([np.nan, -1e30, 1e30], dtype=np.float32))
    assert np.isnan(nan)
    assert not np.isnan(low)
    assert not np.isnan(high)


@pytest.mark.parametrize("rows", [1, 3, 24, 50])
def test_packed_products_equal_plain_ones(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, base = (torch.randn(rows, width, generator=generator) for width in (60, 35))
    weight, bias = torch.randn(35, 60, generator=generator), torch.randn(35, generator=generator)
    plain = F.linear(x, weight, bias)
    with torch.inference_mode():
        packed = PackedLinear(weight, bias, 24)
        torch.testing.assert_close(packed(x), plain, rtol=0, atol=2e-5)
        torch.testing.assert_close(packed.add_to(base, x), base + plain, rtol=0, atol=2e-5)
        gelu = PackedLinear(weight, None, 24, activation="gelu")
        torch.testing.assert_close(gelu(x), F.gelu(F.linear(x, weight)), rtol=0, atol=2e-5)


def test_packed_weights_are_a_copy() -> None:
    weight = torch.randn(8, 8)
    packed, x = PackedLinear(weight, None, 1), torch.randn(1, 8)
    with torch.inference_mode():
        before = packed(x)
        weight.zero_()
        assert torch.equal(packed(x), before)


@pytest.mark.parametrize("images", [1, 4])
def test_the_fused_image_encoder_equals_the_plain_one(images: int) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = ImageEncoder(64)
    pixels = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        fused = FusedImageEncoder(encoder, 4)(pixels)
        torch.testing.assert_close(fused, encoder(pixels), rtol=0, atol=1e-5)


def test_an_unknown_form_is_told_with_those_there_are() -> None:
    backbone = build_backbone(ModelConfig(32, 1, backbone=MambaConfig()))
    with pytest.raises(AgentError, match="no step form 'quick'; choose one of auto, torch, fused"):
        make_stepper(backbone, "quick")


def test_what_cannot_be_fused_says_why_and_auto_takes_the_plain_step() -> None:
    backbone = build_backbone(ModelConfig(32, 1, backbone=XLSTMConfig())).to(torch.bfloat16)
    with pytest.raises(AgentError, match=r"the weights are torch.bfloat16; use the step form torch"):
        make_stepper(backbone, "fused")
    assert make_stepper(backbone, "auto").form == "torch"
    assert make_stepper(backbone.float(), "auto").form == "fused"


def test_a_backbone_of_somebodys_own_is_not_taken_for_ours_by_its_name() -> None:
    class XLSTM(build_backbone(ModelConfig(32, 1, backbone=XLSTMConfig())).__class__):  # type: ignore[misc]
        pass

    own = XLSTM(ModelConfig(32, 1, backbone=XLSTMConfig()))
    assert make_stepper(own, "auto").form == "torch"
    with pytest.raises(AgentError, match="there is none for a XLSTM"):
        make_stepper(own, "fused")


def test_a_numba_that_cannot_be_imported_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("Numba needs NumPy 2.2 or less")

    backbone = build_backbone(ModelConfig(32, 1, backbone=XLSTMConfig()))
    monkeypatch.setattr("lram.agents.backbones.sequences.importlib.import_module", broken)
    assert make_stepper(backbone, "auto").form == "torch"
    with pytest.raises(AgentError, match=r"cannot be imported.*NumPy 2\.2 or less"):
        make_stepper(backbone, "fused")


def test_without_numba_auto_takes_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lram.agents.backbones.sequences.find_spec", lambda name: None)
    backbone = build_backbone(ModelConfig(32, 1, backbone=XLSTMConfig()))
    assert make_stepper(backbone, "auto").form == "torch"
    with pytest.raises(AgentError, match="numba is not installed"):
        make_stepper(backbone, "fused")


SQUARE = """
import sys
from pathlib import Path

from lram.agents.backbones.kernels.compiler import _cache_folder, kernel

@kernel
def square(x):
    return x * x

assert square(3.0) == 9.0
print(_cache_folder())
"""


def _written(tmp_path: Path, code: str) -> Path:
    script = tmp_path / "square.py"
    if not script.is_file() or script.read_text() != code:
        script.write_text(code)
    return script


def _run_square(tmp_path: Path, cache: Path, code: str = SQUARE, count: int = 1) -> list[tuple[Path, str]]:
    """Compile and use a kernel in ``count`` forks at once; return their cache folder and standard error."""
    script = _written(tmp_path, code)
    started = []
    for _ in range(count):
        pipes = [os.pipe() for _ in range(2)]
        child = os.fork()
        if child == 0:
            _be_square(script, cache, [writes for _, writes in pipes])
        for _, writes in pipes:
            os.close(writes)
        started.append((child, [reads for reads, _ in pipes]))
    ended = []
    for child, (out, err) in started:
        with os.fdopen(out) as told, os.fdopen(err) as said:
            folder, errors = Path(told.read().strip()), said.read()
        assert os.waitpid(child, 0)[1] == 0, errors
        ended.append((folder, errors))
    return ended


def _be_square(script: Path, cache: Path, streams: list[int]) -> None:
    """Be, in a fork, a process that has imported the package and compiled nothing of the script."""
    status = 1
    try:
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w") for number in (1, 2))
        os.environ["XDG_CACHE_HOME"] = str(cache)
        compiler.numba.config.CACHE_DIR = ""
        for known in (compiler._cache_folder, compiler._source_digest, files._say):
            known.cache_clear()
        runpy.run_path(str(script), run_name="__main__")  # as kernels name it that are kept
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run_square_anew(tmp_path: Path, cache: Path) -> tuple[Path, str]:
    """Do the same in an interpreter of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": ""}
    command = [sys.executable, str(_written(tmp_path, SQUARE))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()), done.stderr


def test_a_kernel_is_compiled_once_and_kept_for_this_user_alone(tmp_path: Path) -> None:
    ((folder, said),) = _run_square(tmp_path, tmp_path / "cache")
    (kept,) = folder.iterdir()
    before = kept.stat()
    assert (folder.stat().st_mode & 0o777, before.st_mode & 0o777, said) == (0o700, 0o600, "")
    assert _run_square_anew(tmp_path, tmp_path / "cache") == (folder, "")
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_kernel_is_compiled_anew_when_what_it_calls_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it calls is compiled into it, also from another module, and so are numbers of that module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # it would stand for another source of the same second
    head = "from lram.agents.backbones.kernels.compiler import inner_kernel, kernel\n"
    written = {
        "deepest": head + "@inner_kernel\ndef deepest(x):\n    return x + 1\n",
        "numbers": "FACTOR = 2\n",
        "middle": head
        + "import deepest\nfrom numbers_of import FACTOR\n"
        + "@inner_kernel\ndef middle(x):\n    return FACTOR * deepest.deepest(x)\n",
        "outer": head + "from middle import middle\n@kernel\ndef outer(x):\n    return middle(x)\n",
    }
    written["numbers_of"] = written.pop("numbers")

    def digest(changed: str = "", old: str = "", new: str = "") -> str:
        for name, source in written.items():
            (tmp_path / f"{name}.py").write_text(source.replace(old, new) if name == changed else source)
            sys.modules.pop(name, None)
        compiler._source_digest.cache_clear()
        importlib.invalidate_caches()
        found: str = compiler._code_behind(importlib.import_module("outer").outer.py_func)
        return found

    before = digest()
    assert digest() == before
    assert digest("deepest", "x + 1", "x + 2") != before
    assert digest("numbers_of", "2", "3") != before
    for name in written:
        sys.modules.pop(name, None)


def test_a_damaged_kernel_costs_a_compilation_and_is_said_and_replaced(tmp_path: Path) -> None:
    ((folder, _),) = _run_square(tmp_path, tmp_path / "cache")
    (kept,) = folder.iterdir()
    whole, draw = kept.read_bytes(), random.Random(0)
    flipped = bytearray(whole)
    for _ in range(12):
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
    for damaged in (b"", b"garbage", whole[: len(whole) // 2], bytes(flipped)):
        kept.write_bytes(damaged)
        ((_, said),) = _run_square(tmp_path, tmp_path / "cache")
        assert "was damaged and is compiled again" in said
        assert kept.read_bytes() == whole or read_kernel(kept)
        assert list(folder.iterdir()) == [kept]


def test_no_flipped_bit_reaches_the_compiler(tmp_path: Path) -> None:
    file, draw = tmp_path / "square.nbc", random.Random(0)
    write_kernel(file, bytes(range(256)))
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        assert read_kernel(file) is None
        assert not file.exists()
    file.write_bytes(whole)
    assert read_kernel(file) == bytes(range(256))
    file.rename(tmp_path / "other.nbc")
    assert read_kernel(tmp_path / "other.nbc") is None  # one kernel's code is not taken for another's


def test_what_other_users_could_write_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    assert private_folder(folder) == folder
    file = folder / "a.nbc"
    write_kernel(file, b"code")
    for mode in (0o660, 0o606):
        file.chmod(mode)
        assert read_kernel(file) is None
    file.chmod(0o600)
    assert read_kernel(file) == b"code"
    (folder / "link.nbc").symlink_to(file)
    assert read_kernel(folder / "link.nbc") is None
    os.mkfifo(folder / "pipe.nbc")
    assert read_kernel(folder / "pipe.nbc") is None
    for mode in (0o770, 0o707, 0o1777):
        folder.chmod(mode)
        assert private_folder(folder) is None
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid():  # what root owns is trusted
        assert read_kernel(file) is None
        assert private_folder(folder) is None
    assert "can be written by other users, so it is not used" in capsys.readouterr().err


def test_kernels_are_kept_by_processes_at_once_and_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    folders = _run_square(tmp_path, tmp_path / "cache", count=3)
    assert set(folders) == {(folders[0][0], "")}
    assert len(list(folders[0][0].iterdir())) == 1
    folders[0][0].chmod(0o500)
    assert _run_square(tmp_path, tmp_path / "cache") == folders[:1]
    folders[0][0].chmod(0o700)


def test_one_of_the_processes_that_need_a_kernel_at_once_compiles_it(tmp_path: Path) -> None:
    together = SQUARE.replace(
        "assert square",
        "here = Path(sys.argv[0]).parent\n"
        "(here / f'ready-{os.getpid()}').touch()\n"
        "while len(list(here.glob('ready-*'))) < 3:\n    time.sleep(0.001)\nassert square",
        1,
    ).replace("import sys\n", "import os, sys, time\n")
    told = "print(sum(square.stats.cache_misses.values()), file=sys.stderr)\n"
    ended = _run_square(tmp_path, tmp_path / "cache", together + told, count=3)
    assert sorted(said for _, said in ended) == ["0\n", "0\n", "1\n"]
    assert [file.suffix for file in ended[0][0].iterdir()] == [".nbc"]


def test_who_compiles_for_too_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    file = tmp_path / "square.nbc"
    with compiled_by_one(file):
        (lock,) = tmp_path.iterdir()
        with compiled_by_one(file):
            pass
        assert lock.exists()  # it is still the first one's
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_left_behind_or_cannot_be_had_keeps_nobody_from_compiling(tmp_path: Path) -> None:
    file = tmp_path / "square.nbc"
    with compiled_by_one(file):
        (lock,) = tmp_path.iterdir()
    lock.touch()  # of a process that was killed
    with compiled_by_one(file):
        pass
    assert list(tmp_path.iterdir()) == []
    lock.mkdir()
    with compiled_by_one(file):
        pass
    with compiled_by_one(tmp_path / "no folder" / "square.nbc"):
        pass


def test_a_full_disk_costs_a_compilation(tmp_path: Path) -> None:
    limited = SQUARE.replace("import sys\n", "import resource, signal, sys\n").replace(
        "assert square",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\nassert square",
        1,
    )
    ((folder, said),) = _run_square(tmp_path, tmp_path / "cache", limited)
    assert (list(folder.iterdir()), said) == ([], "")


def test_kernels_work_where_nothing_can_be_kept(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert _run_square(tmp_path, blocked) == [(Path("None"), "")]


@pytest.mark.parametrize("kind", ["xlstm", "mamba", "transformer"])
def test_a_users_default_type_changes_nothing(kind: str) -> None:
    def last_bits() -> bytes:
        model = build_model(parse_preset(f"{kind}-1M"), 0)
        stepper = make_stepper(model.backbone, "fused")
        with torch.inference_mode():
            state, x = model.backbone.initial_state(8), torch.ones(8, 3, 96, dtype=torch.float32)
            for _ in range(3):
                y, state = stepper.call(x, state, None)
        assert y.dtype == torch.float32
        return y.numpy().tobytes()

    usual = last_bits()
    torch.set_default_dtype(torch.float64)
    try:
        assert last_bits() == usual
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def test_a_pass_that_is_a_view_needs_no_kernel_of_its_own() -> None:
    from lram.agents.backbones.xlstm.fused import _slstm

    backbone = build_backbone(ModelConfig(32, 1, backbone=XLSTMConfig(slstm_at=(0,))))
    call, x = make_stepper(backbone, "fused").call, torch.randn(3, 6, 32)
    y, _ = call(x[:, 1:2].contiguous(), backbone.initial_state(3), None)
    compiled = set(_slstm.signatures)  # type: ignore[attr-defined]
    assert torch.equal(call(x[:, 1:2], backbone.initial_state(3), None)[0], y)
    assert set(_slstm.signatures) == compiled  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["xlstm", "mamba", "transformer"])
def test_a_fused_step_may_be_called_with_gradients_switched_on_and_has_none(kind: str) -> None:
    backbone = build_model(parse_preset(f"{kind}-1M"), 0).backbone
    with torch.no_grad():
        state = backbone.initial_state(8)
    y, _ = make_stepper(backbone, "fused").call(torch.zeros(8, 3, 96, requires_grad=True), state, None)
    assert not y.requires_grad


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("preset", ["xlstm[7:1]-1M", "mamba-1M"])
@torch.inference_mode()
def test_a_plain_step_gives_states_of_the_layout_that_they_begin_with(preset: str, masked: bool) -> None:
    """Or torch.compile would compile the step a second time."""
    backbone = build_model(parse_preset(preset), 0).backbone
    begun = backbone.initial_state(8)
    layout = [tensor.stride() for tensor in tensors(begun)]
    valid = torch.ones(8, 3, dtype=torch.bool) if masked else None
    _, state = make_stepper(backbone, "torch").call(
        torch.ones(8, 3, parse_preset(preset).width), begun, valid
    )
    assert [tensor.stride() for tensor in tensors(state)] == layout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("form", ["compile", "graphs"])
@torch.inference_mode()
def test_a_compiled_step_equals_the_plain_one(form: str) -> None:
    """Of either block of the xLSTM. On a processor both forms are the same code but for its copies."""
    import torch._inductor.config as inductor

    # All in one file of C++: each costs seconds, and so does a trial of each set of vector instructions.
    cheaply = {"compile_threads": 1, "cpp_wrapper": True, "cpp.vec_isa_ok": False}
    backbone = build_backbone(ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(0,))))
    backbone.reset_parameters()
    steppers = [make_stepper(backbone, name) for name in ("torch", form)]
    states = [backbone.initial_state(8) for _ in steppers]
    for seed in range(4):
        x = torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(seed))
        valid = torch.ones(8, 3, dtype=torch.bool)
        valid[seed, 0] = False
        outputs = []
        for index, stepper in enumerate(steppers):
            with inductor.patch(cheaply):
                y, states[index] = stepper.call(x, states[index], valid)
            outputs.append(y[valid].clone())
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=2e-5)
