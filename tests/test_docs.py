"""The examples of docs/how-to/extending.md run as they stand, links lead on, the reference is whole."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.ready import ready_python

from lram.agents.backbones.stack import MIXERS
from lram.harness.cli import app
from lram.harness.storage.run_folder import Run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "how-to" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

STUDY = """
name = "backbone"
question = "Which backbone acts best?"
seeds = [0]

[recipe.model]
width = 32
layers = 2

[recipe.sampling]
context = 10
sequences = 2

[recipe.optimizer]
updates = 2
warmup_updates = 1

[recipe.validation]
windows = 4

[recipe.saving]
trackers = []

[[axes]]
name = "backbone"

[[axes.levels]]
name = "leaky"
changes = { "model.backbone" = "leaky_backbone:SPEC", "model.leaky.hidden" = 24 }

[[axes.levels]]
name = "gru"
changes = { "model.backbone" = "gru" }

[data]
stores = ["data"]

[evaluation]
tasks = ["toy/reach"]
episodes = 1
"""


# The processes of sweeps and cells are forked, too: to start Python and import PyTorch is not the point.
READY_CHILDREN = "from lram.harness import children, cli; children.PYTHON = {python!r}; cli.main()"


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A user's folder with the page's modules, and their domain announced as an installed package does."""
    for block in BLOCKS:
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (tmp_path / name[1]).write_text(block)
    announced = tmp_path / "line-1.0.dist-info"
    announced.mkdir()
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: line\nVersion: 1.0\n")
    points = (
        "[lram.domains]\nnumber_line = number_line:DOMAIN\n[lram.aggregates]\nworst_task = worst_task:WORST\n"
    )
    (announced / "entry_points.txt").write_text(points)
    return tmp_path


def python(user: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(user)}
    command = [*ready_python(), *arguments]
    answer = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_the_agent_plays(user: Path) -> None:
    lram = ("-m", "lram.harness.cli", "eval", "pendulum_agent:PendulumAgent")
    python(user, *lram, "--tasks", "toy/reach", "-n", "2", "-o", "run", "-q")
    assert [record.status for record in Run(user / "run").records()] == ["scored"] * 2


@pytest.mark.slow
def test_an_agent_with_other_weights_or_other_code_does_not_continue_a_run(user: Path) -> None:
    def lram(*words: str, stops: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(user)}
        command = [*ready_python(), "-m", "lram.harness.cli", *words]
        answer = subprocess.run(
            command, cwd=user, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == (2 if stops else 0), answer.stderr
        assert stops in answer.stderr

    def forget() -> None:
        """Lose what was recorded, so that there is something to play."""
        for file in (user / "run" / "records").glob("*.jsonl"):
            file.unlink()

    weights = user / "weights.npy"
    np.save(weights, np.linspace(-1, 1, 6))
    lram("eval", "weighted_agent:WeightedAgent", "--tasks", "toy/reach", "-n", "1", "-o", "run", "-q")
    forget()
    lram("resume", "run", "-q")
    forget()
    content = weights.read_bytes()
    np.save(weights, np.linspace(1, -1, 6))
    lram("resume", "run", "-q", stops="is not the one the run was started with (digest")
    weights.write_bytes(content)
    lram("resume", "run", "-q")
    forget()
    module = user / "weighted_agent.py"
    module.write_text(module.read_text().replace("np.sign", "np.tanh"))
    lram("resume", "run", "-q", stops="the source of weighted_agent has changed since")


def test_the_metric_is_in_reports(user: Path) -> None:
    lookup = "from lram.reports.aggregates import aggregate_metrics as found"
    python(user, "-c", f"{lookup}; assert found()[-1].key == 'worst_task'")


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen commands
def test_the_backbone_goes_the_whole_way(user: Path) -> None:
    """Trained, checked, evaluated, timed, extrapolated, and compared with the package's own in a study."""

    def lram(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(user)}
        start = ready_python()
        command = [*start, "-c", READY_CHILDREN.format(python=start), *words]
        answer = subprocess.run(
            command, cwd=user, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return answer.stdout

    module = next(block for block in BLOCKS if block.startswith("# leaky_backbone.py"))
    assert len(module.splitlines()) <= 60
    lram("collect", "random", "--tasks", "toy/reach", "-n", "4", "-o", "data", "-q")
    tiny = {
        "model": {"width": 32, "layers": 2},
        "sampling": {"context": 10, "sequences": 2},
        "optimizer": {"updates": 2, "warmup_updates": 1},
        "validation": {"windows": 4},
        "saving": {"trackers": "[]"},
    }
    settings = [f"{section}.{name}={value}" for section, has in tiny.items() for name, value in has.items()]
    own = ["model.backbone=leaky_backbone:SPEC", "model.leaky.hidden=24", "data.stores=data"]
    given = [word for setting in (*settings, *own) for word in ("--set", setting)]
    assert "hidden = 24" in lram("train", *given, "--print-recipe")
    lram("train", *given, "-o", "leaky", "-q")
    model = "leaky/checkpoint"
    lram("eval", model, "--tasks", "toy/reach", "-n", "1", "-o", "run", "-q")
    assert [record.status for record in Run(user / "run").records()] == ["scored"]
    lram("latency", model, "--quick", "--contexts", "4", "-t", "toy/reach", "-o", "latency")
    lram("extrapolate", model, "-t", "toy/reach", "-c", "4", "-n", "1", "-d", "data", "-o", "long")
    (user / "study.toml").write_text(STUDY)
    lram("ablate", "study.toml", "-o", "study")
    lram("report", "run", "latency", "long", "study", "-o", "report")
    page = (user / "report" / "summary.md").read_text(encoding="utf-8")
    assert "leaky" in page


def test_the_backbone_of_parts_passes_the_gate_by_its_compiled_step(user: Path) -> None:
    pytest.importorskip("numba")
    module = next(block for block in BLOCKS if block.startswith("# retention_backbone.py"))
    assert len(module.splitlines()) <= 70
    code = (
        "from lram.agents.acting.model_agent import ModelAgent\n"
        "from lram.agents.checks.equivalence import model_checks\n"
        "from lram.agents.model.config import ModelConfig\n"
        "from lram.agents.model.network import build_model\n"
        "from retention_backbone import SPEC, RetentionConfig\n"
        "model = build_model(ModelConfig(32, 2, RetentionConfig()), 3)\n"
        "agent = ModelAgent(model, trained=False, description='retention', digest='')\n"
        "print(agent.reader.stepper.form, *{check.status for check in model_checks(agent)})\n"
    )
    assert python(user, "-c", code).split() == ["fused", "passed"]


def test_the_policy_that_acts_on_a_batch_plays_and_keeps_its_contract(user: Path) -> None:
    lram = ("-m", "lram.harness.cli")
    python(user, *lram, "check", "network_agent:make_agent", "--tasks", "toy/reach")
    python(user, *lram, "eval", "network_agent:make_agent", "-t", "toy/reach", "-n", "2", "-o", "run", "-q")
    run = Run(user / "run")
    assert [record.status for record in run.records()] == ["scored"] * 2
    note = run.provenance()[0].settings["check of network_agent:make_agent"]
    assert note.endswith("checks passed on toy/reach")


def test_the_domain_keeps_the_contract_and_is_found(user: Path) -> None:
    (check,) = (block for block in BLOCKS if block.startswith("from lram.envs.conformance"))
    python(user, "-c", check)
    lram = ("-m", "lram.harness.cli", "eval", "random")
    python(user, *lram, "--tasks", "number_line", "-n", "2", "-o", "run", "-q")
    assert [record.task for record in Run(user / "run").records()] == ["number_line/stay"] * 2


def test_the_weights_example_converts_a_reference_state_dict(tmp_path: Path) -> None:
    from lram.agents.checkpoints.folder import load_checkpoint
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset

    (example,) = (block for block in BLOCKS if "def convert" in block)
    scope: dict[str, object] = {}
    exec(example.replace("-16M", "-1M"), scope)
    model = build_model(parse_preset("xlstm[7:1]-1M"), seed=1)
    theirs = {"_orig_mod." + _reference_name(name): value for name, value in model.state_dict().items()}
    scope["convert"](theirs, tmp_path / "checkpoint")  # type: ignore[operator]
    loaded, meta = load_checkpoint(tmp_path / "checkpoint")
    assert meta.trained
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def _reference_name(ours: str) -> str:
    from lram.agents.checkpoints.reference import _PREFIXES

    for theirs, own in _PREFIXES:
        if ours.startswith(own):
            return theirs + ours[len(own) :]
    raise AssertionError(ours)


PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "benchmarks" / "README.md"],
    key=str,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    files = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in files if not (page.parent / link).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if page.name != "index.md" and f"]({page})" not in index] == []


def test_every_layer_of_a_stack_is_in_the_page_on_extending() -> None:
    page = (ROOT / "docs/how-to/extending.md").read_text()
    listed = page.partition("The layers are ")[2].partition("\n\n")[0]
    assert set(MIXERS) <= set(re.findall(r"\w+", listed))


def test_every_page_that_the_code_names_is_there() -> None:
    code = [file for room in ("envs", "agents", "harness", "reports") for file in (ROOT / room).rglob("*.py")]
    named = {
        name for file in code for name in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8"))
    }
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("envs", "agents", "harness", "reports")
CODE = sorted(file.relative_to(ROOT).as_posix() for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def defined_names(place: str) -> set[str]:
    """Return what a module, or a folder of modules, defines at its top, and in classes as ``Class.name``."""
    files = sorted((ROOT / place).glob("*.py")) if place.endswith("/") else [ROOT / place]
    return {
        name
        for file in files
        for name in _defined(ast.parse(file.read_text(encoding="utf-8")).body, prefix="")
    }


def _defined(statements: Sequence[ast.stmt], prefix: str) -> Iterator[str]:
    for one in statements:
        if isinstance(one, ast.ClassDef):
            yield prefix + one.name
            yield from _defined(one.body, f"{prefix}{one.name}.")
        elif isinstance(one, ast.FunctionDef):
            yield prefix + one.name
        elif isinstance(one, ast.Assign | ast.AnnAssign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def walked() -> list[tuple[str, str]]:
    """Return each file, or folder, and name of the tables of the page on architecture."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", ARCHITECTURE, re.MULTILINE):
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()
        ]
        place, names = head.index("file"), head.index("names")
        for row in rows:
            assert re.fullmatch(r"`[\w/.]+`", row[place]), row
            assert re.fullmatch(r"`[\w.]+`(, `[\w.]+`)*", row[names]), row
            found += [(row[place].strip("`"), name.strip("`")) for name in row[names].split(", ")]
    return found


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", ARCHITECTURE))
    assert len(named) > 60
    whole = {name for name in named if name.partition("/")[0] in ROOMS}
    assert whole - set(CODE) == set()
    # The others are told by their name within a folder that the sentence tells.
    assert {one for one in named - whole if not any(code.endswith(f"/{one}") for code in CODE)} == set()


def test_every_name_of_the_walks_is_where_the_architecture_says() -> None:
    assert len(walked()) > 100
    assert {one for one in walked() if one[1] not in defined_names(one[0])} == set()


def test_every_other_name_of_the_architecture_is_where_it_says() -> None:
    beside = set(re.findall(r"`([A-Za-z_][\w.]*)`\s+\(`(\w+/[\w/]+\.py)`", ARCHITECTURE))
    dotted = re.findall(
        rf"`(?:lram\.)?((?:{'|'.join(ROOMS)})(?:\.[a-z_]\w*)+)\.([A-Za-z_]\w*)`", ARCHITECTURE
    )
    for module, name in dotted:
        if f"{module}.{name}".replace(".", "/") not in {str(Path(file).parent) for file in CODE}:
            beside.add((name, module.replace(".", "/") + ".py"))
    assert len(beside) > 5
    assert {one for one in beside if one[0] not in defined_names(one[1])} == set()


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "site" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(page: str, heading: str) -> str:
    """Return what stands below a heading, down to the next one of its level."""
    level = re.escape(heading.partition(" ")[0])
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found is not None, f"there is no {heading!r}"
    return found[1]


def test_every_command_and_option_is_in_the_reference(generate: ModuleType) -> None:
    page = generate.commands()
    commands = dict(generate.walk(app))
    assert ("eval",) in commands
    assert ("data", "import") in commands
    for path, command in commands.items():
        text = section(page, f"## `lram {' '.join(path)}`")
        for argument in command.assemble_argument_collection():
            if argument.show:
                for name in argument.names:
                    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), (path, name)


def test_every_field_of_every_record_is_in_the_reference(generate: ModuleType) -> None:
    page = generate.records()
    for title, name in generate.RECORDS.items():
        records = section(page, f"## {title}")
        for one in vars(importlib.import_module(name)).values():
            if dataclasses.is_dataclass(one) and one.__module__ == name:
                text = section(records, f"### {one.__name__}")
                for field in dataclasses.fields(one):
                    assert f"| `{field.name}` |" in text, (one, field.name)


def test_every_key_of_recipes_and_studies_is_in_the_reference(generate: ModuleType) -> None:
    from lram.agents.training.recipe import Recipe

    recipe, rest = generate.recipes().split("## Study")
    study, rest = rest.split("## Precision study")
    precision, evaluation = rest.split("## Evaluation file")
    for field in dataclasses.fields(Recipe):
        part = getattr(Recipe(), field.name)
        if not dataclasses.is_dataclass(part):
            assert f"| `{field.name}` |" in section(recipe, "### At the top")
            continue
        text = section(recipe, f"### `[{field.name}]`")
        for inner in dataclasses.fields(part):
            assert f"| `{inner.name}` |" in text, (field.name, inner.name)
    assert "`> 0, at most 1`" not in recipe
    assert "| `top_fraction` | `float, > 0, at most 1` |" in section(recipe, "### `[data]`")
    assert "| `changes` |" in section(study, "### `[axes.levels]`")
    assert "| `precisions` |" in section(precision, "### At the top")
    assert "| `exclude` |" in section(evaluation, "### At the top")
    assert "| `quarantine_after` |" in section(evaluation, "### `[machine]`")


@pytest.mark.slow
def test_every_key_and_column_of_a_report_is_in_the_reference(generate: ModuleType) -> None:
    """The sample has every section, so nothing that reports write is missing."""
    summary, tables = generate.sample_report()
    assert set(summary["chapters"]) == {
        "literature",
        "parts",
        "latency",
        "extrapolation",
        "study",
        "precision",
        "embedding",
        "learning",
    }
    for name in (
        "per_task",
        "episodes",
        "literature_means",
        "literature_tasks",
        "literature_not_shown",
        "latency_points",
        "extrapolation_scores",
        "study_effects",
        "precision_scores",
        "precision_tasks",
        "precision_costs",
        "embedding_separation",
        "embedding_points",
        "training",
    ):
        assert len(tables[f"{name}.csv"]) > 2, name
    for name, columns in tables.items():
        assert len(set(columns)) == len(columns), name
    page = generate.report_files((summary, tables))
    assert all(f"### `{name}`" in page for name in tables)
    assert "chapters.latency" in page
    for field in dataclasses.fields(generate._found(generate.SUMMARY)):
        assert f"| `{field.name}` |" in section(page, "### Summary")


def test_every_module_of_the_code_is_in_the_reference(generate: ModuleType) -> None:
    text = "\n".join(generate.rooms().values())
    for room in ("envs", "agents", "harness", "reports"):
        for file in (ROOT / room).rglob("*.py"):
            name = ".".join(("lram", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
            assert name.endswith("__main__") or f"::: {name}\n" in text + "\n", name
