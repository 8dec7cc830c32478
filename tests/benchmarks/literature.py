"""Make the table of published numbers (reports/data/literature.csv) from the repositories that hold them.

    git clone --bare https://github.com/huggingface/jat
    git clone --bare https://github.com/nicklashansen/tdmpc2
    git clone --bare https://github.com/openai/train-procgen
    git clone --bare https://github.com/ml-jku/LRAM
    python tests/benchmarks/literature.py --jat jat.git --tdmpc2 tdmpc2.git \
        --train-procgen train-procgen.git --lram LRAM.git

Every number is read from a file of the commit that is named here, none is typed in. What a source's protocol
is, and with which of ours it agrees, was decided by reading the source's code at that commit; the sentences
are in this script. Nothing of the repositories is run.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from lram.reports.literature import COLUMNS, PublishedCell, parse

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "reports" / "data" / "literature.csv"

# Procgen's levels have been counted: of these games, some levels from 200 on are levels below 200 under
# another number (envs/domains/procgen.py), and the protocol ``unseen`` leaves them out.
REPEATED_LEVELS = ("coinrun", "leaper", "maze", "ninja")

# Tasks of dm_control's suite whose names in TD-MPC2's files are not domain-task as here. Its other names
# without a counterpart are tasks of TD-MPC2's own.
DOMAINS = ("acrobot", "cartpole", "cheetah", "cup", "dog", "finger", "fish", "hopper", "humanoid", "pendulum")
DOMAINS += ("quadruped", "reacher", "walker")
OWN_TASKS = ("jump", "back", "backwards", "front", "spin", "three")


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        folder: A git directory, such as a bare clone.
        name: ``owner/name`` on GitHub.
        commit: The commit that was read.
    """

    folder: Path
    name: str
    commit: str

    def text(self, file: str) -> str:
        """Return a file's text."""
        return self._git("show", f"{self.commit}:{file}")

    def files(self, folder: str) -> list[str]:
        """Return the files in a folder."""
        return self._git("ls-tree", "--name-only", self.commit, f"{folder}/").split()

    def _git(self, *words: str) -> str:
        command = ["git", "--git-dir", str(self.folder), *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"{self.folder} is not {self.name} at {self.commit}: {answer.stderr.strip()}")
        return answer.stdout

    def cell(
        self,
        system: str,
        task: str,
        file: str,
        value: float,
        *,
        protocol: str,
        reason: str,
        agrees_with: str = "",
        metric: str = "return",
        ends: tuple[float, float] | None = None,
        interval: str = "",
    ) -> PublishedCell:
        """Return a cell of this source."""
        return PublishedCell(
            system=system,
            task=task,
            metric=metric,  # type: ignore[arg-type]
            value=_six(value),
            low=_six(ends[0]) if ends else None,
            high=_six(ends[1]) if ends else None,
            interval=interval,
            normaliser="",
            protocol=protocol,
            agrees_with=agrees_with,
            reason=reason,
            source=f"https://github.com/{self.name}",
            file=file,
            commit=self.commit,
        )


def procgen(source: Snapshot) -> Iterator[PublishedCell]:
    """Yield what PPO earned on Procgen at the end of training on 200 easy levels (Cobbe et al. 2020)."""
    games = [file.rsplit("/", 1)[1] for file in source.files(f"{PROCGEN}0") if file.endswith("-train.csv")]
    for game in (name.removeprefix("progress-").removesuffix("-train.csv") for name in games):
        for levels in ("train", "test"):
            ends = [_last(source, f"{PROCGEN}{run}/progress-{game}-{levels}.csv") for run in range(3)]
            agrees, reason = _procgen_agreement(game, levels)
            yield source.cell(
                "PPO (train-procgen)",
                f"procgen/{game}",
                f"{PROCGEN}{{0,1,2}}/progress-{game}-{levels}.csv",
                statistics.fmean(ends),
                ends=(min(ends), max(ends)),
                interval="range of 3 training runs",
                protocol=(
                    ("easy levels 0 to 199" if levels == "train" else "easy levels, drawn from all")
                    + "; one agent a game, trained for 50M steps on levels 0 to 199; mean of the last 100 "
                    "episodes of training, actions sampled"
                ),
                agrees_with=agrees,
                reason=reason,
            )


PROCGEN = "train_procgen/results/easy-200-run"


def _procgen_agreement(game: str, levels: str) -> tuple[str, str]:
    if levels == "train":
        return "procgen:lram@1", "the same levels, and the game's own rewards and limits"
    if game in REPEATED_LEVELS:
        reason = "levels drawn from all, of which some begin as a training level; unseen leaves those out"
        return "", reason
    return "procgen:unseen@2", "all levels but 200 in 2 billion, and the game's own rewards and limits"


def _last(source: Snapshot, file: str) -> float:
    rows = list(csv.DictReader(io.StringIO(source.text(file))))
    return float(rows[-1]["eprewmean"])


def tdmpc2(source: Snapshot) -> Iterator[PublishedCell]:
    """Yield what TD-MPC2 reached at each seed's last evaluation (Hansen et al. 2024)."""
    for file in source.files("results/tdmpc2"):
        name = file.rsplit("/", 1)[1].removesuffix(".csv")
        last: dict[str, dict[str, str]] = {}
        for row in csv.DictReader(io.StringIO(source.text(file))):
            known = last.setdefault(row["seed"], row)
            if int(row["step"]) >= int(known["step"]):
                last[row["seed"]] = row
        if task := _suite_task(name):
            values = [float(row["reward"]) for row in last.values()]
            about = {
                "protocol": "dm_control's suite, 1000 steps, each action held for two; one agent a task, "
                "trained online; the last evaluation of training, 10 episodes a seed",
                "agrees_with": "dmcontrol:lram@1",
                "reason": "the same 1000 steps and rewards; to hold an action for two is the agent's choice",
            }
        elif name.startswith("mw-"):
            task = f"metaworld/{name.removeprefix('mw-')}-v3"
            values = [float(row["success"]) for row in last.values()]
            about = {
                "metric": "success_rate",
                "protocol": "v2 tasks, 200 steps after a first one without action, each action held for two; "
                "solved at the last step; one agent a task, trained online; the last evaluation of training, "
                "10 episodes a seed",
                "reason": "v2 tasks and a step more at the start; the protocols here play the v3 tasks",
            }
        else:
            continue
        yield source.cell(
            "TD-MPC2",
            task,
            file,
            statistics.fmean(values),
            ends=(min(values), max(values)),
            interval=f"range of {len(values)} training seeds",
            **about,  # type: ignore[arg-type]
        )


def _suite_task(name: str) -> str:
    """Return the id here of a task of dm_control's suite; empty for the others."""
    domain, *words = name.split("-")
    if domain not in DOMAINS or (set(words) & set(OWN_TASKS) and name != "finger-spin"):
        return ""
    return f"dmcontrol/{'ball_in_cup' if domain == 'cup' else domain}-{'_'.join(words)}"


def jat(source: Snapshot, games: Iterable[str]) -> Iterator[PublishedCell]:
    """Yield the experts of JAT's data, and random play of Meta-World (Gallouédec et al. 2024)."""
    file = "jat/eval/rl/scores_dict.json"
    known = {name.replace("-", ""): name for name in games}
    for name, scores in json.loads(source.text(file)).items():
        domain, _, task = name.partition("-")
        if domain == "atari":
            yield _jat(source, file, "JAT experts", f"atari/{known[task]}", scores["expert"], *JAT_ATARI)
        elif domain == "metaworld":
            id_ = f"metaworld/{task}-v3"
            yield _jat(source, file, "JAT experts", id_, scores["expert"], *JAT_META_WORLD)
            yield _jat(source, file, "random actions (JAT)", id_, scores["random"], *JAT_RANDOM)


JAT_ATARI = (
    "episodes of JAT's data set: games of up to 108,000 frames, no sticky actions, each game's own actions; "
    "one agent a game",
    "games of up to 108,000 frames; here a game ends at 27,000",
)
JAT_META_WORLD = (
    "v2 tasks of a fork, 500 steps; one agent a task",
    "v2 tasks of 500 steps; the protocols here play the v3 tasks",
)
JAT_RANDOM = ("v2 tasks of a fork, 500 steps; a million steps of uniform actions", JAT_META_WORLD[1])


def _jat(
    source: Snapshot,
    file: str,
    system: str,
    task: str,
    score: dict[str, float],
    protocol: str,
    reason: str,
) -> PublishedCell:
    mean, deviation = score["mean"], score["std"]
    return source.cell(
        system,
        task,
        file,
        mean,
        ends=(mean - deviation, mean + deviation),
        interval="mean ± standard deviation of episodes",
        protocol=protocol,
        reason=reason,
    )


def atari_references(source: Snapshot, games: Mapping[str, tuple[float, float]]) -> Iterator[PublishedCell]:
    """Yield a human's scores and random play's, as the paper's implementation has them (from DQN Zoo)."""
    for game, (random, human) in games.items():
        for system, value, stands in (("human tester", human, 1), ("random actions (DQN Zoo)", random, 0)):
            yield source.cell(
                system,
                f"atari/{game}",
                HUMAN_SCORES,
                value,
                protocol="mean of at least 3 games of up to 108,000 frames, after 1 to 30 no-ops",
                reason=(
                    "games of up to 108,000 frames, where here a game ends at 27,000; by the normaliser "
                    f"paper it is what a score of {stands} stands for"
                ),
            )


HUMAN_SCORES = "src/envs/hn_scores.py"


def atari_games(source: Snapshot) -> dict[str, tuple[float, float]]:
    """Return random play and a human's score by game, named as here; the file's later rows are of Procgen."""
    found: dict[str, tuple[float, float]] = {}
    for node in ast.parse(source.text(HUMAN_SCORES)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ENVID_TO_HNS":
            found = ast.literal_eval(node.value)
    games = list(found)
    return {game: found[game] for game in games[: games.index("zaxxon") + 1]}


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def text_of(cells: list[PublishedCell]) -> str:
    """Return the file's text."""
    raw = io.StringIO()
    writer = csv.DictWriter(raw, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = {field.name: _text(getattr(cell, field.name)) for field in fields(cell)}
        writer.writerow(row | {"comparable": "yes" if cell.comparable else "no"})
    return raw.getvalue()


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Read the repositories and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("jat", "tdmpc2", "train-procgen", "lram"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="git directory of the repository")
    parser.add_argument(
        "-o", "--output", type=Path, default=TABLE, help="the table (default: the shipped one)"
    )
    asked = parser.parse_args()
    lram = Snapshot(asked.lram, "ml-jku/LRAM", "a984cdf5b9848369871c033813fe60beceadeb50")
    games = atari_games(lram)
    ppo = Snapshot(asked.train_procgen, "openai/train-procgen", "1a2ae2194a61f76a733a39339530401c024c3ad8")
    planner = Snapshot(asked.tdmpc2, "nicklashansen/tdmpc2", "e9f59321933cbc8e11a002b842adc7d4ffae8ff1")
    experts = Snapshot(asked.jat, "huggingface/jat", "834b49c0ea28ba27cd7e0283a73b7c4f852ef622")
    cells = [*procgen(ppo), *tdmpc2(planner), *jat(experts, games), *atari_references(lram, games)]
    text = text_of(cells)
    if parse(text) != tuple(cells):
        raise SystemExit("the table does not read back as it was written")
    asked.output.write_text(text, encoding="utf-8")
    print(f"{asked.output}: {len(cells)} cells", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
