"""The command line: listings for programs and people, and one clear sentence for bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.ready import ready_python

from lram.harness.storage.run_folder import Run

HEAVY = (
    "torch",
    "pandas",
    "matplotlib",
    "scipy",
    "mujoco",
    "dm_control",
    "metaworld",
    "ale_py",
    "procgen",
    "gymnasium",
)


def lram(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ready_python(), "-m", "lram.harness.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


def test_help_and_listings_import_nothing_heavy() -> None:
    commands = (["--help"], ["tasks", "--json"], ["suites"], ["domains"], ["agents"])
    script = (
        "import sys\nfrom lram.harness.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    print('heavy:', heavy, 'after', *arguments, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert answer.stderr.splitlines() == [f"heavy: [] after {' '.join(words)}" for words in commands]


def test_tasks_as_json_hold_every_fact_with_its_source() -> None:
    rows = json.loads(lram("tasks", "--json").stdout)
    assert len(rows) == 469
    row = next(row for row in rows if row["id"] == "atari/pooyan")
    assert row["audit"] == "no score reference"
    assert row["sources"]["target_return"]


def test_tasks_name_those_without_a_score() -> None:
    output = lram("tasks", "atari").stdout
    assert (
        "46 tasks (41 train, 5 heldout); 2 without a usable score reference: atari/carnival, atari/pooyan"
        in output
    )


def test_tasks_select_and_exclude() -> None:
    rows = json.loads(lram("tasks", "lram432", "--exclude", "composuite,mimicgen", "--json").stdout)
    assert {row["domain"] for row in rows} == {"atari", "procgen", "dmcontrol", "metaworld"}
    assert len(rows) == 109


@pytest.mark.parametrize("command", ["suites", "domains", "agents"])
def test_every_listing_has_json(command: str) -> None:
    assert json.loads(lram(command, "--json").stdout)


def evaluation(
    tmp_path: Path, *agents: str, tasks: str = "toy/steps", more: tuple[str, ...] = ()
) -> list[str]:
    return ["eval", *agents, "--tasks", tasks, "-o", str(tmp_path / "run"), "-n", "1", "-q", *more]


BAD_INPUT: dict[str, tuple[list[str], str]] = {
    "unknown task": (["random", "--tasks", "atari/freway"], "did you mean 'atari/freeway'"),
    "unknown agent": (["rondom", "--tasks", "toy/steps"], "random"),
    "unknown preset": (["xlstm-17M", "--tasks", "toy/steps"], "48M, 110M, 206M, 408M"),
    "empty selection": (["random", "--tasks", "toy/steps,!toy"], "leaves no task"),
    "no simulator": (["random", "--tasks", "composuite16"], "lram env install composuite --source"),
    "unknown protocol": (
        ["random", "--tasks", "toy/steps", "--protocol", "toy=nope"],
        "toy has no protocol 'nope'",
    ),
    "protocol of another domain": (["random", "--tasks", "toy/steps", "--protocol", "atari=sticky"], "atari"),
    "malformed protocol": (["random", "--tasks", "toy/steps", "--protocol", "sticky"], "domain=value"),
    "two protocols of a domain": (
        ["random", "--tasks", "toy/steps", "--protocol", "toy=plain", "--protocol", "toy=sticky"],
        "both plain and sticky",
    ),
    "same label twice": (["random", "random", "--tasks", "toy/steps"], "label=specification"),
    "no episode": (["random", "--tasks", "toy/steps", "-n", "0"], "must be 1 or more"),
    "no lane": (["random", "--tasks", "toy/steps", "-l", "0"], "lanes is 0"),
    "no deadline": (["random", "--tasks", "toy/steps", "--step-deadline", "0"], "must be above 0"),
    "missing checkpoint": (["./nowhere", "--tasks", "toy/steps"], "nowhere"),
    "module that is not there": (["no_such_module:make", "--tasks", "toy/steps"], "no_such_module"),
    "nothing to play": (["scripted", "--tasks", "procgen/heist"], "can play none of the selected tasks"),
    "interpreter that is not there": (
        ["random", "--tasks", "toy/steps", "--python", "toy=/no/such/python"],
        "/no/such/python",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(tmp_path: Path, case: str) -> None:
    arguments, words = BAD_INPUT[case]
    answer = lram("eval", "-o", "run", "-q", *arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("lram: ")
    assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_simulator_names_its_extra(tmp_path: Path) -> None:
    script = (
        "import sys\nimport lram.envs.availability as availability\n"
        "availability._present = lambda name: False\n"
        "from lram.harness.cli import main\n"
        f"sys.argv[1:] = {['eval', 'random', '--tasks', 'atari/freeway', '-o', str(tmp_path / 'run')]!r}\n"
        "main()"
    )
    answer = subprocess.run([*ready_python(), "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "not installed: atari (lacks ale_py" in answer.stderr
    assert "pip install 'lram-bench[atari]'" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = lram("eval", "random", "--tasks", "toy/steps", "-o", str(tmp_path / "file" / "run"), "-q")
    assert answer.returncode == 2
    assert answer.stderr.strip().splitlines() == [
        f"lram: cannot write to {tmp_path / 'file' / 'run'}: Not a directory; make room or give "
        "another folder, and repeat the command"
    ]


def test_a_run_that_exists_is_not_touched(tmp_path: Path) -> None:
    assert lram(*evaluation(tmp_path, "random")).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    answer = lram(*evaluation(tmp_path, "random"))
    assert answer.returncode == 2
    assert f"lram resume {tmp_path / 'run'}" in answer.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_eval_tells_what_it_recorded_and_what_next(tmp_path: Path) -> None:
    answer = lram(*evaluation(tmp_path, "random", "still=constant"))
    assert answer.returncode == 0, answer.stderr
    assert "lram report" in answer.stdout
    assert {line.split()[0] for line in answer.stdout.splitlines()[1:3]} == {"random", "still"}
    assert "errored" not in answer.stdout, "nothing was lost"


@pytest.mark.slow
def test_resume_takes_from_the_run_what_is_not_given(tmp_path: Path, shallow: dict[str, str]) -> None:
    folder = str(tmp_path / "run")
    started = ("--precision", "bfloat16", "--rows", "16", "--threads", "2")
    agent = f"m={shallow['mamba']}"
    assert lram(*evaluation(tmp_path, agent, more=started)).returncode == 0
    (segment,) = (tmp_path / "run" / "records").iterdir()
    segment.unlink()
    answer = lram("resume", folder, "-q", "--precision", "float32")
    assert answer.returncode == 2
    assert answer.stderr == (
        "lram: the run was started with --precision bfloat16, and float32 makes other agents of its models; "
        "continue with bfloat16, or start a new run\n"
    )
    answer = lram("resume", folder, "-q", "--rows", "8", "-l", "2")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines() == [
        "lram: this session computes otherwise than the run's start: rows a pass 8 instead of 16 (m); "
        "last digits may differ"
    ]
    settings = Run(folder).provenance()[-1].settings
    assert (settings["precision"], settings["threads"]) == ("bfloat16", "2")


@pytest.mark.slow
@pytest.mark.parametrize(("command", "device"), [("eval", "meta"), ("resume", "warp-drive")])
def test_a_device_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, shallow: dict[str, str], command: str, device: str
) -> None:
    arguments = evaluation(tmp_path, shallow["mamba"])
    if command == "resume":
        assert lram(*arguments).returncode == 0
        (segment,) = (tmp_path / "run" / "records").iterdir()
        segment.unlink()
        arguments = ["resume", str(tmp_path / "run"), "-q"]
    answer = lram(*arguments, "--device", device)
    assert answer.returncode == 2, answer.stdout
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"lram: the device '{device}' cannot be used here; use cpu")


def test_report_needs_a_run_and_a_place(tmp_path: Path) -> None:
    answer = lram("report", str(tmp_path), "--json")
    assert answer.returncode == 2
    assert "is not a run" in answer.stderr
    lram(*evaluation(tmp_path, "random"))
    answer = lram("report", str(tmp_path / "run"), str(tmp_path))
    assert answer.returncode == 2
    assert "-o" in answer.stderr


def test_the_summary_on_standard_output_counts_every_agent_and_task(tmp_path: Path) -> None:
    lram(*evaluation(tmp_path, "random", tasks="toy/steps,toy/crash"))
    answer = lram("report", str(tmp_path / "run"), "--json")
    assert answer.returncode == 0, answer.stderr
    text = json.dumps(json.loads(answer.stdout))
    for word in ("scored", "errored", "missing", "toy/steps", "toy/crash"):
        assert word in text


def test_users_own_agents_are_found_beside_their_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from lram.agents.experts.baselines import ConstantAgent\n\n"
        "def make():\n    return ConstantAgent(0.5)\n"
    )
    answer = lram("eval", "mine:make", "--tasks", "toy/reach", "-o", "run", "-n", "1", "-q", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    answer = lram("eval", "mine:other", "--tasks", "toy/reach", "-o", "run2", "-n", "1", "-q", cwd=tmp_path)
    assert answer.returncode == 2
    assert "other" in answer.stderr


@pytest.mark.slow
def test_a_created_checkpoint_is_evaluated_and_called_untrained(tmp_path: Path) -> None:
    assert (
        lram("create", "transformer[ring]-1M", "-o", str(tmp_path / "checkpoint"), "-s", "3").returncode == 0
    )
    answer = lram(*evaluation(tmp_path, str(tmp_path / "checkpoint")))
    assert answer.returncode == 0, answer.stderr
    assert "untrained" in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["pickle", "truncated", "other shape", "no config"])
def test_a_bad_checkpoint_is_one_sentence(tmp_path: Path, shallow: dict[str, str], damage: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(shallow["mamba"], checkpoint)
    weights = checkpoint / "model.safetensors"
    if damage == "pickle":
        weights.rename(checkpoint / "model.pt")
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other shape":
        weights.write_bytes((Path(shallow["transformer"]) / "model.safetensors").read_bytes())
    else:
        (checkpoint / "config.json").unlink()
    answer = lram(*evaluation(tmp_path, str(checkpoint)))
    assert answer.returncode == 2, answer.stdout
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert "checkpoint" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_an_argument_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    for argument in (b"--device=\xff\xfe", b"x\xff"):
        command = [sys.executable, "-m", "lram.harness.cli", "eval", "random", "-t", "toy/steps", "-o", "run"]
        answer = subprocess.run(
            [*command, argument], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert answer.returncode == 2
        assert "is no UTF-8 text" in answer.stderr
        assert answer.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_command(tmp_path: Path, closed: str) -> None:
    command = f"exec {sys.executable} -m lram.harness.cli eval random -t toy/steps -n 1 -o run {closed}"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0
    assert "Traceback" not in answer.stderr
    assert [record.status for record in Run(tmp_path / "run").records()] == ["scored"]
