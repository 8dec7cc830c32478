"""Options that commands share, each declared once, and how their values are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lram.agents.compute import FORMS, ROWS, SEQUENCE_FORMS, Precision, SequenceForm, StepForm
from lram.envs.registry import domain_names
from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.evaluation import started_machine
from lram.harness.evaluation_files.content import MachineSection
from lram.harness.executors.contract import Executor
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine
from lram.harness.storage.run_folder import Run

# What is played. Where a command needs it and another does not, the type is the command's.
AGENTS = Parameter(help="Names, presets, checkpoint folders or module:factory.")
TASKS = Parameter(name=["--tasks", "-t"], help="A selection; see 'lram tasks --help'.", negative=())
RUN_FOLDER = Parameter(name=["--output", "-o"], help="Folder of the run; must be new.")

ExcludeOption = Annotated[
    list[str] | None, Parameter(help="Tasks to leave out of the selection.", negative=())
]
EpisodesOption = Annotated[int, Parameter(name=["--episodes", "-n"], help="Episodes per agent and task.")]
GivenEpisodesOption = Annotated[
    int | None, Parameter(name=["--episodes", "-n"], help="Episodes per agent and task (default: 10).")
]
GivenPlaySeedOption = Annotated[
    int | None,
    Parameter(name=["--seed", "-s"], help="Seed of initial states and of everything random (default: 0)."),
]
PlaySeedOption = Annotated[
    int, Parameter(name=["--seed", "-s"], help="Seed of initial states and of everything random.")
]
ProtocolOption = Annotated[
    list[str] | None, Parameter(help="domain=NAME: another protocol; see 'lram domains'.", negative=())
]

TrustOption = Annotated[
    bool,
    Parameter(
        help="Also run the modules and interpreters that the folder names, although it was not started on "
        "this machine. Look at the folder first.",
        negative=(),
    ),
]

# What is shown, and where it goes.
JsonOption = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]
QuietOption = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.", negative=())]

CountsOption = Annotated[
    bool,
    Parameter(
        help="Also print at the end what became of the planned episodes, and how they were spread over lanes "
        "and workers.",
        negative=(),
    ),
]
AllowErrorsOption = Annotated[
    bool,
    Parameter(
        help="Exit with 0 although planned episodes have no score, where each agent has one on each task.",
        negative=(),
    ),
]

ResamplingSeedOption = Annotated[int, Parameter(name="--seed", help="Seed of the resampling in comparisons.")]
SeedsOfOption = Annotated[
    list[str] | None,
    Parameter(
        help="Agents that are trainings of one model with different seeds, as NAME=A,B,C or NAME='a-*': "
        "their mean with an interval over the trainings, and models compared by it; repeat it for each "
        "model.",
        negative=(),
    ),
]
NormaliserOption = Annotated[
    Normaliser,
    Parameter(
        help="What a score of 0 is: the random return of the paper's implementation, or random play as it "
        "was measured here, where it was measured under the run's protocol."
    ),
]

# What is read or written.
RunArgument = Annotated[Path, Parameter(help="Folder of a run.")]
DomainArgument = Annotated[str, Parameter(help="Name of a domain.")]
CheckpointArgument = Annotated[
    Path, Parameter(help="Folder of the checkpoint, or the name of a model that comes with the package.")
]
StoreArgument = Annotated[Path, Parameter(help="Folder of a trajectory store.")]
StoresArgument = Annotated[list[Path], Parameter(help="Folders of trajectory stores.")]
OnlyTasksOption = Annotated[
    list[str] | None,
    Parameter(name=["--tasks", "-t"], help="Only these tasks, such as 'metaworld/*'.", negative=()),
]
TaskLimitOption = Annotated[int | None, Parameter(help="At most so many episodes of each task.")]
NewCheckpointOption = Annotated[
    Path, Parameter(name=["--output", "-o"], help="Folder of the checkpoint; must be new.")
]
LicenceOption = Annotated[
    str, Parameter(name=["--licence", "--license"], help="Licence of the data, for the store's card.")
]

# Of models, and of trajectories that they read.
ModelsArgument = Annotated[
    list[str] | None, Parameter(help="Models: checkpoint folders, shipped models or presets.")
]
STORES_OPTION = Parameter(name=["--data", "-d"], help="Folders of trajectory stores.", negative=())
PoliciesOption = Annotated[
    list[str] | None, Parameter(help="Patterns of the policies that acted there.", negative=())
]
ModelThreadsOption = Annotated[int, Parameter(help="Threads for the models.")]

# Of models that are trained.
SettingsOption = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        help="section.field=value: set a field of the recipe (listed above); repeat it for several, such as "
        "--set optimizer.updates=500 --set data.tasks=toy/reach,toy/steps.",
        negative=(),
    ),
]

PRECISION_HELP = (
    "float32; bfloat16: weights and activations; bfloat16-weights, int8: the weights of matrix products "
    "alone, in fewer bytes"
)
# Of models that are timed.
StepOption = Annotated[StepForm, Parameter(help="How a model's step is computed.")]
RowsOption = Annotated[int, Parameter(help="Lanes that share a pass of a model.")]
DeviceOption = Annotated[str, Parameter(help="Where models act: cpu, cuda, cuda:1.")]
TimedDeviceOption = Annotated[str, Parameter(help="Where models decide: cpu, cuda, cuda:1.")]
PrecisionOption = Annotated[Precision, Parameter(help=f"{PRECISION_HELP}; states are float32.")]
GivenPrecisionOption = Annotated[
    Precision | None, Parameter(help=f"{PRECISION_HELP}; states are float32 (default: float32).")
]
BenchSeedOption = Annotated[
    int, Parameter(name=["--seed", "-s"], help="Seed of weights, inputs and the order of visits.")
]
BenchRecordOption = Annotated[
    Path | None, Parameter(name=["--output", "-o"], help="Write the record to this JSON file.")
]


_USUAL = Machine()
_OF_MACHINE = (
    *("lanes", "workers", "threads", "device", "precision", "step", "rows"),
    *("attempts", "quarantine_after", "shuffle"),
)


def given_options(options: Mapping[str, object]) -> list[str]:
    """Return the names of ``options`` that were given: those that are not None."""
    return [name for name, value in options.items() if value is not None]


FLAT = Parameter(name="*")
"""Decorates a dataclass of options: each of its fields is an option of the command."""


@FLAT
@dataclass(frozen=True)
class MachineOptions:
    """How the work is spread over the machine.

    None: as usual for a new run; in one that is continued, as it was started, but for lanes and workers.
    """

    lanes: Annotated[
        int | None,
        Parameter(
            name=["--lanes", "-l"],
            help=f"Episodes played at the same time; best twice --rows or more (default: {_USUAL.lanes}).",
        ),
    ] = None
    workers: Annotated[
        int | None, Parameter(name=["--workers", "-w"], help="Simulator processes (default: one a core).")
    ] = None
    threads: Annotated[
        int | None,
        Parameter(
            help="Threads for the models; more than 1 may change the last digits (default: as the run was "
            "started; for a new run 1)."
        ),
    ] = None
    device: Annotated[
        str | None,
        Parameter(
            help="Where models act: cpu, cuda, cuda:1; of a list such as cuda:0,cuda:1 agents take one after "
            "the other (default: as the run was started; for a new run cpu)."
        ),
    ] = None
    precision: Annotated[
        Precision | None,
        Parameter(help=f"{PRECISION_HELP}; states are float32 (default: as started; new: float32)."),
    ] = None
    step: Annotated[
        StepForm | None,
        Parameter(
            help="How a model's step is computed (default: as started; new: auto, fused kernels where "
            "possible)."
        ),
    ] = None
    rows: Annotated[
        int | None,
        Parameter(
            help="Lanes that share a pass of a model: 1, or a multiple of 8 (default: as started; new: "
            f"{ROWS})."
        ),
    ] = None
    python: Annotated[
        list[str] | None,
        Parameter(
            help="domain=PATH: play a domain in another Python; domain=main: in lram's own. Default: the one "
            "that 'lram env install' made, if any; to resume, those the run was started with.",
            negative=(),
        ),
    ] = None
    attempts: Annotated[
        int | None,
        Parameter(
            help="How often an episode is tried when its simulator fails (default: as started; new: "
            f"{_USUAL.attempts})."
        ),
    ] = None
    quarantine_after: Annotated[
        int | None,
        Parameter(
            help="Give up a task when its first N episodes all failed (default: as started; new: "
            f"{_USUAL.quarantine_after})."
        ),
    ] = None
    begin_deadline: Annotated[
        float | None,
        Parameter(
            help="Seconds to create a simulator and reset it; then it counts as hung (default: as started; "
            f"new: {_USUAL.deadlines.begin_s:g})."
        ),
    ] = None
    step_deadline: Annotated[
        float | None,
        Parameter(
            help="Seconds for one step of a simulator; then it counts as hung (default: as started; new: "
            f"{_USUAL.deadlines.step_s:g})."
        ),
    ] = None
    shuffle: Annotated[bool | None, Parameter(help="Play the episodes in random order.", negative=())] = None
    quiet: QuietOption = False

    def machine(self, run: Run | None = None) -> Machine:
        """Return the settings as the library takes them, for a new run or to continue with ``run``."""
        from lram.envs.workers.process import Deadlines

        usual = started_machine(run) if run is not None else Machine()
        given = {name: getattr(self, name) for name in _OF_MACHINE}
        deadlines = Deadlines(
            usual.deadlines.begin_s if self.begin_deadline is None else self.begin_deadline,
            usual.deadlines.step_s if self.step_deadline is None else self.step_deadline,
        )
        return replace(
            usual,
            **{name: value for name, value in given.items() if value is not None},
            interpreters=pairs(self.python, "--python"),
            deadlines=deadlines,
        )

    def over(self, section: MachineSection) -> MachineSection:
        """Return what an evaluation file says, with what was given here over it."""
        given = {one.name: getattr(self, one.name) for one in fields(section) if one.name != "python"}
        return replace(
            section,
            **{name: value for name, value in given.items() if value is not None},
            python={**section.python, **pairs(self.python, "--python")},
        )

    @classmethod
    def of(cls, section: MachineSection) -> MachineOptions:
        """Return the options that say the same as the section of an evaluation file."""
        given = {one.name: getattr(section, one.name) for one in fields(section)}
        python = [f"{domain}={path}" for domain, path in section.python.items()]
        return cls(**{**given, "python": python or None})


DEFAULT_MACHINE = MachineOptions()


@FLAT
@dataclass(frozen=True)
class ClusterOptions:
    """Where to play: on this machine, or on a Ray cluster."""

    backend: Annotated[
        Literal["local", "ray"],
        Parameter(help="Play on this machine, or on a Ray cluster (docs/how-to/cluster.md)."),
    ] = "local"
    address: Annotated[
        str | None,
        Parameter(
            help="Address of the Ray cluster, such as 10.0.0.1:6379 (default: RAY_ADDRESS, or a cluster "
            "on this machine)."
        ),
    ] = None
    job_cpus: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: cores of a job, each with a simulator process, as 2 or domain=2 (default: 1).",
            negative=(),
        ),
    ] = None
    job_gpus: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: GPUs of a job whose model is on cuda, as 0.25 or domain=0.25 (default: 1).",
            negative=(),
        ),
    ] = None
    job_memory: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: GiB of memory of a job, as 4 or domain=4 (default: from domain, model and lanes).",
            negative=(),
        ),
    ] = None
    job_episodes: Annotated[
        int | None,
        Parameter(
            help="Ray: episodes of a job (default: few enough for an even end, many enough for start-up)."
        ),
    ] = None

    def chosen(self, machine: MachineOptions | None = None) -> Executor:
        """Return where to work; LramError for options that do not go together, with ``machine`` or not."""
        if self.backend == "local":
            for option in ("address", "job_cpus", "job_gpus", "job_memory", "job_episodes"):
                if getattr(self, option) is not None:
                    raise LramError(f"--{option.replace('_', '-')} belongs to a cluster: add --backend ray")
            return LOCAL
        if machine is not None and machine.workers is not None:
            raise LramError("--workers is for one machine; with --backend ray, give --job-cpus")
        from lram.harness.executors.ray import RayExecutor, ResourceRequest

        request = ResourceRequest(
            numbers_by_domain(self.job_cpus, "--job-cpus"),
            numbers_by_domain(self.job_gpus, "--job-gpus"),
            numbers_by_domain(self.job_memory, "--job-memory"),
            self.job_episodes,
        )
        return RayExecutor(self.address, request)

    def words(self) -> list[str]:
        """Return the options as a command line has them."""
        return [] if self.backend == "local" else option_words(**asdict(self))


DEFAULT_CLUSTER = ClusterOptions()


def option_words(**options: object) -> list[str]:
    """Return options as a command line has them: a list's once for each value, none for None and False."""
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            each = value if isinstance(value, list) else [value]
            words += [word for one in each for word in (option, str(one))]
    return words


def terms(selection: Sequence[str], exclude: Sequence[str] | None) -> list[str]:
    """Return the terms of a selection and of its ``--exclude``; files of domains that they name are run."""
    from lram.harness.domain_files import named

    return named([*selection, *(f"!{term}" for part in exclude or () for term in part.split(","))])


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``domain=value`` texts as a dictionary; LramError for one without both sides, or two values."""
    result: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise LramError(f"{option} takes domain=value, not {text!r}")
        if result.get(name, value) != value:
            raise LramError(f"{option} gives {name} both {result[name]} and {value}; leave one of them out")
        result[name] = value
    return result


def numbers_by_domain(texts: Sequence[str] | None, option: str) -> dict[str, float]:
    """Return ``2`` and ``domain=2`` texts by domain, the first under ""; LramError for what is no number."""
    result = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        try:
            result[name] = float(value)
        except ValueError:
            raise LramError(f"{option} takes a number or domain=number, not {text!r}") from None
        if equals and not name:
            raise LramError(f"{option} takes a number or domain=number, not {text!r}")
        if name and name not in domain_names():
            raise LramError(f"{option} {text}: there is no domain {name}; 'lram domains' lists them")
    return result


def parse_int_list(text: str, option: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma list; LramError for anything else."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise LramError(f"{option} takes whole numbers such as 1,16, not {text!r}") from None


def parse_sequence_forms(text: str, option: str) -> tuple[SequenceForm, ...]:
    """Return the sequence forms of a comma list; LramError where one is unknown."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    known = tuple(form for part in parts for form in SEQUENCE_FORMS if form == part)
    if len(known) < len(parts):
        raise LramError(f"{option} takes a list of {', '.join(SEQUENCE_FORMS)}, not {text!r}")
    return known


def parse_step_forms(text: str, option: str) -> tuple[str, ...]:
    """Return the step forms of a comma list; LramError where one is empty."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(parts):
        raise LramError(
            f"{option} takes step forms such as torch,fused (there are {', '.join(FORMS)}), not {text!r}"
        )
    return parts
