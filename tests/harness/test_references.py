"""``lram reference``: what is measured, what is refused, and that the user's file keeps all else."""

from __future__ import annotations

import re
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lram.envs import domain_files, registry, score_file
from lram.envs.registry import add_file, own_rows, select
from lram.envs.score_file import References, completed
from lram.harness.cli import main
from lram.harness.errors import LramError
from lram.harness.plan import RunRequest, make_plan
from lram.harness.references.measuring import Earned, _problem, _scale
from lram.harness.references.playing import Asked, _check_same
from lram.harness.references.writing import write_entries
from lram.harness.storage.run_folder import Run

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"^```python\n(# number_line.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
OPEN = re.sub(r"    (target_return|score_random|score_reference)=.*\n|    sources=.*\n", "", EXAMPLE).replace(
    "    reward_scale=1.0,\n", "    target_return=None,\n    reward_scale=1.0,\n"
)

STEADY = """
import numpy as np
from lram.agents.api import AgentInfo

class Steady:
    info = AgentInfo(kind="controller", description="towards zero")
    def refuses(self, task): return None
    def start(self, lanes): return None
    def reset(self, state, lanes, episodes): pass
    def act(self, state, observations, rewards, lanes):
        return [np.clip(-10 * seen[:1], -1, 1).astype(np.float32) for seen in observations], state
    def state_bytes(self, state): return 0
"""

pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a domain in a file, whose task has no references."""
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv(domain_files.VARIABLE, raising=False)
    monkeypatch.setenv(score_file.VARIABLE, str(tmp_path / "scores.toml"))
    monkeypatch.setenv("LRAM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "number_line.py").write_text(OPEN)
    (tmp_path / "steady_of_tests.py").write_text(STEADY)
    caches = (registry.all_tasks, registry.load_domain, registry._faulty)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def lram(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    handler = signal.getsignal(signal.SIGTERM)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lram", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, handler)
        said = capfd.readouterr()
        return int(stop.value.code or 0), said.out + said.err

    return call


def test_references_are_measured_and_carry_scores(home: Path, lram: Callable[..., tuple[int, str]]) -> None:
    asked = (
        "reference",
        "number_line.py",
        "--reference",
        "steady=steady_of_tests:Steady",
        "-n",
        "8",
        "-o",
        "run",
        "-q",
    )
    code, said = lram(*asked)
    assert code == 0, said
    [entry] = tomllib.loads((home / "scores.toml").read_text()).values()
    returns = {
        label: [record.episode_return for record in Run("run").records() if record.agent == label]
        for label in ("random", "steady")
    }
    assert entry["random"] == pytest.approx(sum(returns["random"]) / 8, rel=1e-5)
    assert entry["reference"] == entry["target_return"] == pytest.approx(sum(returns["steady"]) / 8, rel=1e-5)
    assert entry["reference_error"] > 0
    assert entry["reward_scale"] == 10.0
    assert re.search(
        r"random play and steady, 8 episodes each, seed 0, number_line:plain@1, run \w{12}", entry["source"]
    )
    [task] = select("number_line/stay")
    assert (task.score_reference, task.reward_scale) == (entry["reference"], 10.0)
    assert dict(task.sources)["score"] == entry["source"]

    code, said = lram(*asked)
    assert (code, "already; leave the task out, or add --overwrite" in said) == (2, True)
    (home / "scores.toml").write_text('["number_line/stay"]\nrandom = 1\n')
    code, said = lram(*asked, "--overwrite")  # the run is there: nothing is played again
    assert code == 0, said
    assert tomllib.loads((home / "scores.toml").read_text())["number_line/stay"] == entry
    code, said = lram(*asked[:-5], "-n", "9", "-o", "run", "--overwrite", "-q")
    assert (code, "a run of other agents, tasks, episodes or seed" in said) == (2, True), said


def test_a_measurement_is_not_taken_from_a_run_of_other_code(
    home: Path, lram: Callable[..., tuple[int, str]]
) -> None:
    asked = ["reference", "number_line.py", "--reference", "steady=steady_of_tests:Steady", "-n", "2"]
    asked += ["-o", "run", "--overwrite", "-q"]
    code, said = lram(*asked)
    assert code == 0, said
    (home / "steady_of_tests.py").write_text(STEADY + "# changed\n")
    code, said = lram(*asked)
    assert (code, "the source of steady_of_tests has changed since" in said) == (2, True), said
    (home / "steady_of_tests.py").write_text(STEADY)
    (home / "number_line.py").write_text(OPEN + "# changed\n")
    code, said = lram(*asked)
    assert (code, "number_line.py in" in said and "changed since" in said) == (2, True), said


def test_a_reference_that_is_not_above_random_play_is_refused(
    home: Path, lram: Callable[..., tuple[int, str]]
) -> None:
    code, said = lram("reference", "number_line.py", "--reference", "edge=constant=1", "-n", "6", "-q")
    assert code == 1, said
    assert "not written: number_line/stay: the reference's mean return" in said
    assert "number_line" not in (home / "scores.toml").read_text()


def test_a_run_under_another_protocol_is_not_taken() -> None:
    def wanted(protocols: dict[str, str]) -> Asked:
        return Asked(own_rows("toy/steps"), {"random": "random"}, None, 2, 0, protocols)

    plan, _ = make_plan(RunRequest(agents={"random": "random"}, tasks="toy/steps", episodes=2))
    [usual] = plan.tasks
    run = SimpleNamespace(path="run", plan=plan)
    _check_same(wanted({}), run)
    other = replace(plan, tasks=(replace(usual, protocol="toy:other@1"),))
    with pytest.raises(LramError, match=r"under the protocol other, not under .*--protocol toy=other"):
        _check_same(wanted({}), SimpleNamespace(path="run", plan=other))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("metaworld/reach-v3",), "a task of the paper's table"),
        (("toy/reach",), "has references of its domain's own"),
        (("number_line.py", "-n", "1"), "a mean has a standard error from 2 episodes on"),
        (("number_line.py", "--reference", "random"), "an agent other than random play"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: tuple[str, ...], sentence: str, home: Path, lram: Callable[..., tuple[int, str]]
) -> None:
    code, said = lram("reference", *words, "-q")
    assert code == 2
    assert sentence in said
    assert not (home / "scores.toml").exists()


def test_chance_is_told_from_a_difference(home: Path) -> None:
    add_file("number_line.py")
    [task] = own_rows("number_line")
    poor = Earned(10.0, 1.0, 12.0, 9)
    assert not _problem(task, poor, Earned(12.8, 1.0, 15.0, 9))  # 1.96 * sqrt(2) = 2.77
    assert "difference 2.7, needed above 2.772" in _problem(task, poor, Earned(12.7, 1.0, 15.0, 9))
    assert _problem(task, Earned(5.0, 0.0, 5.0, 9), Earned(5.0, 0.0, 5.0, 9))
    scales = [_scale(Earned(mean, 0, 0, 2), None) for mean in (-1370.0, 999.0, 0.4, 0.0)]
    assert scales == [1000.0, 100.0, 1.0, 1.0]


def test_an_entry_goes_in_without_touching_the_rest(home: Path) -> None:
    add_file("number_line.py")
    [task] = own_rows("number_line")
    entry = References(1.5, 0.1, 3.0, 0.2, 'a "quoted" source', 3.0, 10.0)
    file = home / "scores.toml"
    others = '# mine\n["Pendulum-v1"] # old\nrandom = -1200.0 # kept\n\n'
    file.write_text(others)
    write_entries(file, {task: entry}, overwrite=False)
    assert file.read_text().startswith(others + '["number_line/stay"]\nrandom = 1.5\n')
    assert completed([task])[0].score_random == 1.5

    file.write_text(f'["number_line/stay"]  # my task\n# why\nrandom = 7\n\n{others}')
    with pytest.raises(LramError, match="has random of number_line/stay already"):
        write_entries(file, {task: entry}, overwrite=False)
    write_entries(file, {task: entry}, overwrite=True)
    text = file.read_text()
    assert text.endswith(f"# why\n\n{others}")
    assert text.startswith('["number_line/stay"]  # my task\nrandom = 1.5\n')
    assert "random = 7" not in text

    for odd in ('"number_line/stay" = {random = 7}\n', '"number_line/stay".random = 7\n'):
        file.write_text(odd)
        with pytest.raises(LramError, match="does not begin with a line"):
            write_entries(file, {task: entry}, overwrite=True)
        assert file.read_text() == odd
    odd = '["number_line/stay"]\nrandom = 7\n["x"]\nnote = """\n["number_line/stay"]\nrandom = 8\n"""\n'
    file.write_text(
        odd.replace('["number_line/stay"]\nrandom = 7\n', "") + '["number_line/stay"]\nrandom = 7\n'
    )
    before = file.read_text()
    with pytest.raises(LramError, match="cannot be edited safely"):
        write_entries(file, {task: entry}, overwrite=True)
    assert file.read_text() == before
