"""Evaluation files: the same evaluation as the command they stand for, and one sentence for what is wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lram.envs.registry import select
from lram.harness.cli import app
from lram.harness.cli.options import MachineOptions
from lram.harness.cli.printing.streams import nothing_hidden
from lram.harness.errors import LramError
from lram.harness.evaluation_files.content import EvaluationFile, MachineSection
from lram.harness.evaluation_files.reading import evaluation_file, read_evaluation
from lram.harness.evaluation_files.writing import render_evaluation
from lram.harness.machine import Machine
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

FILE = """
agents = ["random", "low=constant=-0.5"]
tasks = ["toy/reach,toy/steps", "toy/lives"]
exclude = ["toy/lives"]
episodes = 4
seed = 3
[machine]
lanes = 3
workers = 1
attempts = 1
"""


def lram(*words: object) -> int:
    command, bound, _ = app.parse_args([str(word) for word in words], exit_on_error=False, print_error=False)
    return command(*bound.args, **bound.kwargs) or 0


def records(run: Path) -> list[EpisodeRecord]:
    return [replace(record, measured=Measured(0, 0, 0, 0, 0, 0)) for record in Run(run).records()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.toml").write_text(FILE)
    return tmp_path


def test_a_file_plays_what_the_command_it_stands_for_plays(here: Path) -> None:
    assert lram("eval", "first.toml", "-n", 2, "-l", 2, "-o", "from-file", "-q") == 0
    agents = ("random", "low=constant=-0.5")
    how = ("-t", "toy/reach,toy/steps", "-t", "toy/lives", "--exclude", "toy/lives", "-n", 2, "-s", 3)
    assert lram("eval", *agents, *how, "-l", 2, "-w", 1, "-o", "from-command", "-q") == 0
    assert Run("from-file").plan == Run("from-command").plan
    assert records(here / "from-file") == records(here / "from-command")
    assert len(records(here / "from-file")) == 3 * 2  # the constant cannot play toy/steps
    settings = [Run(name).provenance()[0].settings for name in ("from-file", "from-command")]
    assert [one["attempts"] for one in settings] == ["1", "2"]
    assert settings[0]["lanes"] == "2"


def test_what_is_printed_is_read_as_the_same_evaluation(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        lram("eval", "first.toml", "-n", 7, "--python", "toy=main", "--protocol", "atari=sticky", "--print")
        == 0
    )
    printed = capsys.readouterr().out
    (here / "again.toml").write_text(printed)
    made = read_evaluation(here / "again.toml")
    was = read_evaluation(here / "first.toml")
    section = replace(was.machine, python={"toy": "main"})
    assert made == replace(was, episodes=7, protocols={"atari": "sticky"}, machine=section)
    assert lram("eval", "again.toml", "--print") == 0
    assert capsys.readouterr().out == printed
    assert {path.name for path in here.iterdir()} == {"first.toml", "again.toml"}


def test_a_command_is_printed_as_the_file_that_stands_for_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("eval", "random", "-t", "toy/reach", "-n", 2, "-s", 4, "--rows", 8, "--shuffle")
    assert lram(*words, "--print") == 0
    (here / "made.toml").write_text(capsys.readouterr().out)
    assert lram(*words, "-o", "command", "-q") == lram("eval", "made.toml", "-o", "file", "-q") == 0
    assert Run("command").plan == Run("file").plan
    assert records(here / "command") == records(here / "file")


def test_what_is_printed_is_the_file_also_where_a_terminal_would_hide_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = "a\u202eb\x85\u200b\U000e0001"
    with nothing_hidden():
        assert lram("eval", f"{label}=random", "-t", "toy/reach", "--print") == 0
    (here / "made.toml").write_text(printed := capsys.readouterr().out, encoding="utf-8")
    assert all(line.isprintable() for line in printed.splitlines())
    assert read_evaluation(here / "made.toml").agents == (f"{label}=random",)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: "/" not in text and ":" not in text and not text.startswith("~")
)


@settings(max_examples=30)
@example(("0",), ("\r", " a , b"), 0.0, {}, None, None)
@given(
    agents=st.lists(TEXT, min_size=1, max_size=3).map(tuple)
    | st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
    tasks=st.lists(TEXT, min_size=1, max_size=2).map(tuple),
    realtime=st.floats(0, 1e9),
    protocols=st.dictionaries(TEXT, TEXT, max_size=2),
    step_deadline=st.none() | st.floats(1e-9, 1e9),
    shuffle=st.none() | st.booleans(),
)
def test_any_text_survives_the_way_through_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    agents: tuple[str, ...] | dict[str, str],
    tasks: tuple[str, ...],
    realtime: float,
    protocols: dict[str, str],
    step_deadline: float | None,
    shuffle: bool | None,
) -> None:
    machine = MachineSection(step_deadline=step_deadline, shuffle=shuffle, python={"toy": "main"})
    asked = EvaluationFile(agents, tasks, realtime=realtime, protocols=protocols, machine=machine)
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(render_evaluation(asked), encoding="utf-8", newline="")
    assert read_evaluation(file) == asked


def test_the_documented_file_is_one(here: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "evaluations.md").read_text(encoding="utf-8")
    (here / "told.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    made = read_evaluation(here / "told.toml")
    assert made.agents == ("random", f"mine={here}/checkpoints/last")
    assert (made.protocols, made.machine.workers) == ({"atari": "sticky"}, 8)
    assert select([*made.tasks, *(f"!{one}" for one in made.exclude)])


def test_folders_are_meant_from_the_folder_of_the_file(here: Path) -> None:
    work = here / "work"
    (work / "checkpoints" / "last").mkdir(parents=True)
    (work / "flat").mkdir()
    (here / "flat").mkdir()
    (here / "elsewhere").mkdir()  # of the working directory, which the file does not mean
    (work / "venv" / "bin").mkdir(parents=True)
    (work / "one.toml").write_text(
        'agents = ["random", "mine=checkpoints/last~0.3", "flat@window=50", "elsewhere", "a.b:make", '
        '"../up"]\n'
        'tasks = ["toy/reach"]\n[machine.python]\ntoy = "venv"\natari = "bin/python"\nprocgen = "python3"\n'
    )
    made = read_evaluation(Path("work/one.toml"))
    assert made.agents == (
        "random",
        f"mine={work}/checkpoints/last~0.3",
        f"{work}/flat@window=50",
        f"{work}/elsewhere",
        "a.b:make",
        f"{here}/up",
    )
    assert made.machine.python == {
        "toy": f"{work}/venv",
        "atari": f"{work}/bin/python",
        "procgen": "python3",
    }


@pytest.mark.slow
def test_a_checkpoint_whose_name_ends_like_a_file_is_a_checkpoint(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(str(resources.files("lram.agents"))) / "data" / "checkpoints" / "small-mamba"
    shutil.copytree(shipped, here / "mine.toml")
    assert evaluation_file(["mine.toml"]) is None
    assert lram("eval", "mine.toml", "-t", "toy/reach", "-n", 1, "-o", "run", "-q") == 0
    assert [agent.label for agent in Run("run").plan.agents] == ["mine.toml"]
    (here / "names.toml").write_text('tasks = ["toy/reach"]\nepisodes = 1\n[agents]\nmine = "mine.toml"\n')
    assert lram("eval", "names.toml", "-o", "again", "-q") == 0
    assert Run("again").plan.agents[0] == replace(Run("run").plan.agents[0], label="mine")


def test_only_a_regular_file_alone_is_an_evaluation_file(here: Path) -> None:
    assert evaluation_file(["first.toml"]) == Path("first.toml")
    assert evaluation_file(["random"]) is None
    assert evaluation_file(["mine=first.toml"]) is None  # an agent, and what it is called
    assert evaluation_file(["my.toml:make"]) is None
    for agents in (["first.toml", "random"], ["random", "first.toml"]):
        with pytest.raises(LramError, match=r"first.toml is an evaluation file, .* \(random\) into it"):
            evaluation_file(agents)
    with pytest.raises(LramError, match=r"there is no evaluation file frist.toml"):
        evaluation_file(["frist.toml"])


WRONG = {
    "agents": ('agents = "random"', "agents does not fit: expected"),
    "agent without a text": ('agents = ["random", 3]', r"agents.* does not fit: expected str, got int"),
    "no agents": ("agents = []", "has no agents"),
    "a field": ('agents = ["random"]\nepisode = 3', r"episode that is not known; did you mean episodes\?"),
    "a section's field at the top": (
        'agents = ["random"]\nlanes = 3',
        r"lanes that is not known; did you mean machine.lanes\?",
    ),
    "a far field": (
        'agents = ["random"]\n[machine]\nzzz = 1',
        "machine.zzz that is not known; known: lanes, ",
    ),
    "episodes": ('agents = ["random"]\nepisodes = 0', "episodes does not fit: expected int >= 1"),
    "a truth as a number": (
        'agents = ["random"]\nepisodes = true',
        "episodes does not fit: expected int, got",
    ),
    "seed": ('agents = ["random"]\nseed = -1', "seed does not fit"),
    "realtime": ('agents = ["random"]\nrealtime = inf', "realtime is inf"),
    "lanes": (
        'agents = ["random"]\n[machine]\nlanes = "many"',
        "machine.lanes does not fit: expected int, got",
    ),
    "step": (
        'agents = ["random"]\n[machine]\nstep = "fast"',
        "machine.step does not fit: invalid enum value 'fast'; choose from auto, torch, fused, ",
    ),
    "no TOML": ("agents = [", "is not TOML"),
    "deep": ("x = " + "[" * 100_000, "is nested too deeply|is not TOML"),
    "two lines": ('agents = ["random"]\n"a\\nb" = 1', r"a\\nb that is not known"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence_that_says_where(here: Path, case: str) -> None:
    text, message = WRONG[case]
    (here / "wrong.toml").write_text(f'tasks = ["toy/reach"]\n{text}\n')
    with pytest.raises(LramError, match=message) as caught:
        lram("eval", "wrong.toml", "-o", "run", "-q")
    assert "wrong.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (here / "run").exists()


def test_what_a_command_lacks_is_named(here: Path) -> None:
    (here / "no-tasks.toml").write_text('agents = ["random"]\n')
    for words, message in (
        (("random", "-o", "run"), "no tasks are given"),
        (("no-tasks.toml", "-o", "run"), r"no-tasks.toml has no tasks; write tasks = .*, or give --tasks"),
        (("random", "-t", "toy/reach"), "folder of the run is missing"),
        (("first.toml", "-n", 0, "-o", "run"), "must be 1 or more"),
    ):
        with pytest.raises(LramError, match=message):
            lram("eval", *words)
    assert lram("eval", "no-tasks.toml", "-t", "toy/steps", "-n", 1, "-o", "run", "-q") == 0


def test_options_of_the_machine_and_a_files_section_say_the_same() -> None:
    assert MachineOptions().machine() == replace(Machine(), interpreters={})
    given = MachineOptions(lanes=3, python=["toy=main"], begin_deadline=2.5, shuffle=True)
    section = given.over(MachineSection(lanes=5, attempts=4, python={"toy": "x", "atari": "y"}))
    assert section == MachineSection(
        lanes=3, attempts=4, begin_deadline=2.5, shuffle=True, python={"toy": "main", "atari": "y"}
    )
    machine = MachineOptions.of(section).machine()
    assert (machine.lanes, machine.attempts, machine.shuffle) == (3, 4, True)
    assert (machine.deadlines.begin_s, machine.deadlines.step_s) == (2.5, Machine().deadlines.step_s)
    assert machine.interpreters == {"toy": "main", "atari": "y"}
