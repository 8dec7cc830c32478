"""``lram import-checkpoint``: from a file of the reference to an agent that acts."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lram.agents.checkpoints.reference import their_name
from lram.agents.factory import create_agent
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset
from lram.harness.cli import main


@dataclass
class Answer:
    """What a command returned and printed."""

    returncode: object
    stdout: str
    stderr: str


Lram = Callable[..., Answer]

# Which reads sys.argv, as a user's call does; the warning is for tests that forget to say what to run.
pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")


@pytest.fixture
def lram(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Lram]:
    """The command line in this process, which has imported torch already."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["lram", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Answer(stop.value.code or 0, printed.out, printed.err)

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = build_model(parse_preset("xlstm[7:1]-1M"), seed=1)
    policy = {f"_orig_mod.{their_name(name)}": value for name, value in model.state_dict().items()}
    policy["_orig_mod.embed_timestep.weight"] = torch.ones(1000, 96)
    with zipfile.ZipFile(tmp_path / "last_model.zip", "w") as archive:
        archive.writestr("data", "{}")
        with archive.open("policy.pth", "w", force_zip64=True) as file:
            torch.save(policy, file)
    return tmp_path / "last_model.zip"


@pytest.mark.slow
def test_an_imported_checkpoint_acts_and_is_called_trained(lram: Lram, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "imported"
    answer = lram("import-checkpoint", str(source), "-o", str(folder))
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == (
        "architecture: xLSTM [7:1] (sLSTM at 1 of 8 blocks), with the sizes of the preset xlstm[7:1]-1M"
    )
    assert "width 96, layers 8, state_width 204, heads 4, slstm_at 1, conv_kernel 4" in lines[1]
    assert "actions_in_context no (--actions-in-context), decode center (--decode)" in lines[2]
    count = build_model(parse_preset("xlstm[7:1]-1M"), seed=1).parameter_count
    assert lines[3] == f"parameters: {count:,}, trained: yes"
    assert lines[4].startswith("unused tensors dropped: 1, named in ")
    assert lines[5] == f"checkpoint: {folder}"

    agent = create_agent(str(folder))
    assert agent.info.trained
    where = ("--tasks", "toy/steps", "-o", str(tmp_path / "run"))
    answer = lram("eval", str(folder), *where, "-n", "1", "-q", "--counts")
    assert answer.returncode == 0, answer.stderr
    assert "trained (checkpoint imported)" in answer.stdout


def test_options_reach_the_checkpoint(lram: Lram, source: Path, tmp_path: Path) -> None:
    answer = lram("import-checkpoint", str(source), "-o", str(tmp_path / "a"), "--decode", "lower")
    assert answer.returncode == 0, answer.stderr
    assert '"decode": "lower"' in (tmp_path / "a" / "config.json").read_text()
    answer = lram("import-checkpoint", str(source), "-o", str(tmp_path / "b"), "--actions-in-context")
    assert answer.returncode == 2
    assert "lack embed_action_disc.weight" in answer.stderr
    answer = lram("import-checkpoint", str(source), "-o", str(tmp_path / "b"), "--heads", "4")
    assert answer.returncode == 2
    assert "heads is an option for Transformers" in answer.stderr


def test_a_refusal_is_one_sentence_and_nothing_is_written(lram: Lram, source: Path, tmp_path: Path) -> None:
    harmful = tmp_path / "harmful.pt"
    harmful.write_bytes(pickle.dumps(print, protocol=2))
    for arguments, words in (
        ((str(harmful),), "needs print, and building one could run code"),
        ((str(tmp_path / "no.zip"),), "does not exist"),
        ((str(source), "--decode", "upper"), "upper"),
    ):
        answer = lram("import-checkpoint", *arguments, "-o", str(tmp_path / "out"))
        assert answer.returncode == 2, answer.stderr
        (line,) = answer.stderr.strip().splitlines()
        assert line.startswith("lram: ")
        assert words in line
        assert not (tmp_path / "out").exists()
    answer = lram("import-checkpoint", str(source), "-o", str(tmp_path))
    assert answer.returncode == 2
    assert "exists and is kept" in answer.stderr


def test_the_pickle_that_eval_refuses_leads_to_the_command(lram: Lram, source: Path, tmp_path: Path) -> None:
    answer = lram("eval", str(source), "--tasks", "toy/steps", "-o", str(tmp_path / "run"), "-q")
    assert answer.returncode == 2
    assert f"lram import-checkpoint {source} --output FOLDER" in answer.stderr


def test_help_tells_what_is_assumed_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom lram.harness.cli import main\n"
        "sys.argv[1:] = ['import-checkpoint', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    for option in ("--output", "--actions-in-context", "--decode", "--heads", "--context", "--positions"):
        assert option in answer.stdout
