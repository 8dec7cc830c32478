"""From training runs to what a summary says of them: results, and caveats on comparing them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import msgspec

from lram.agents.model.config import config_to_dict
from lram.agents.spec import acts_with_noise
from lram.agents.training.heldout import SplitFacts
from lram.agents.training.recipe import FREE
from lram.reports.evidence.trainings import Training, ValidationLine
from lram.reports.model import AgentResult, Caveat, rounded
from lram.reports.model.training import HeldOut, Measures, TrainingResult, Validation
from lram.reports.text import count, names

SAME_TOKENS = 0.01
"""Up to this share numbers of tokens count as equal: windows at episodes' beginnings are shorter, so equal
recipes of different seeds do not read the same number."""

_UNSAID = "not recorded yet"
_TRAINS_ALIKE = FREE | {"seed", "validation.every", "saving.metrics_every"}
"""Fields that make no other training; seeds are compared by model."""


def results(trainings: Sequence[Training], agents: Sequence[AgentResult]) -> tuple[TrainingResult, ...]:
    """Return what the trainings gave, connected with the agents that are their final checkpoints."""
    return tuple(_result(training, agents) for training in trainings)


def _result(training: Training, agents: Sequence[AgentResult]) -> TrainingResult:
    facts, lines = training.facts, training.lines
    seconds = lines[-1].time.seconds if lines else 0.0
    tokens = training.tokens[-1] if lines else 0
    before = [0.0, *(line.time.seconds for line in lines)]
    waited = sum(
        line.time.waiting_share * (line.time.seconds - start)
        for line, start in zip(lines, before, strict=False)
    )
    model = facts.model
    return TrainingResult(
        label=training.label,
        name=training.label if facts.digest else f"{training.label} (unfinished)",
        model=model.describe() if model else "",
        size=f"{f'{model.name}, ' if model.name else ''}width {model.width}, {count(model.layers, 'block')}"
        if model
        else "",
        parameters=facts.parameters,
        finished=bool(facts.digest),
        updates=lines[-1].update if lines else 0,
        of_updates=facts.updates,
        timesteps=sum(line.timesteps for line in lines),
        tokens=tokens,
        seconds=rounded(seconds),
        tokens_per_second=rounded(tokens / seconds) if seconds else None,
        waiting_share=rounded(waited / seconds) if seconds else None,
        seed=facts.seed,
        processes=facts.processes,
        stores=facts.stores,
        recipe_digest=facts.recipe_digest,
        checkpoint_digest=facts.digest,
        began_from=facts.began_from,
        evaluated_as=tuple(
            agent.label
            for agent in agents
            if facts.digest and agent.digest == facts.digest and not acts_with_noise(agent.spec)
        ),
        machine=facts.machine,
        validation=_validation(training.validations[-1]) if training.validations else None,
        split=held_out(facts.split),
    )


def held_out(split: SplitFacts | None) -> HeldOut | None:
    """Return how many episodes are on both sides of a split; None where that is not recorded."""
    if split is None:
        return None
    return HeldOut(
        split.training,
        split.different,
        split.validation,
        split.validation_in_training,
        split.validation_in_earlier,
        split.earlier_complete,
    )


def _validation(line: ValidationLine) -> Validation:
    domains = {name: _rounded(measures) for name, measures in sorted(line.domains.items())}
    return Validation(line.update, _rounded(line.mean), domains)


def _rounded(measures: Measures) -> Measures:
    values = (measures.loss, measures.perplexity, measures.top1, measures.action_error)
    return Measures(*(None if value is None else rounded(value) for value in values))


def other_data(trainings: Sequence[Training]) -> frozenset[str]:
    """Return the labels of the trainings that did not see the first one's data, as far as that is known."""
    return frozenset(one.label for one in trainings[1:] if _data(one) != _data(trainings[0]))


def _data(training: Training) -> Hashable:
    facts = training.facts
    chosen = {name: value for name, value in facts.recipe.items() if _selects(name)}
    stores = None if facts.stores is None else tuple(sorted(facts.stores))
    return stores, msgspec.json.encode(chosen, order="sorted")


def _selects(name: str) -> bool:
    return name.startswith("data.") and name not in FREE


def caveats(
    trainings: Sequence[Training], found: Sequence[TrainingResult], agents: Sequence[AgentResult]
) -> tuple[Caveat, ...]:
    """Return what must be known before the trainings' numbers are compared."""
    if not trainings:
        return ()
    alone: Iterator[Caveat] = chain(_unfinished(found), _labels(found, agents), _copies(found))
    together = chain(_differences(trainings), _lengths(found), _recipes(trainings), _machines(found))
    return (*alone, *(together if len(trainings) > 1 else ()), *_seeds(trainings))


def _unfinished(found: Sequence[TrainingResult]) -> Iterator[Caveat]:
    going = [one for one in found if not one.finished]
    if going:
        yield Caveat(
            "training unfinished",
            f"{count(len(going), 'training has', 'trainings have')} not ended: what is shown is not the "
            "final model.",
            tuple(f"{one.label}: {one.updates} of {count(one.of_updates, 'update')}" for one in going),
        )


def _copies(found: Sequence[TrainingResult]) -> Iterator[Caveat]:
    """Yield where validation is no validation, and where that is not known."""
    same = [one for one in found if one.split and one.split.validation_in_training]
    if same:
        yield Caveat(
            "validated on training data",
            f"{count(len(same), 'training was', 'trainings were')} validated on trajectories that are also "
            "training trajectories, step by step: that loss is no held-out one.",
            tuple(
                f"{one.name}: {split.validation_in_training} of {split.validation} validation trajectories"
                for one in same
                if (split := one.split)
            ),
        )
    before = [one for one in found if one.split and one.split.validation_in_earlier]
    if before:
        yield Caveat(
            "validated on earlier training data",
            f"{count(len(before), 'training was', 'trainings were')} validated on trajectories that the "
            "checkpoint which it began from was trained on: that loss is no held-out one.",
            tuple(
                f"{one.name}: {split.validation_in_earlier} of {split.validation} validation trajectories"
                for one in before
                if (split := one.split)
            ),
        )
    silent = tuple(
        one.name
        for one in found
        if one.validation and (split := one.split) and not split.earlier_complete and one not in before
    )
    if silent:
        yield Caveat(
            "earlier training data not compared",
            f"Of {count(len(silent), 'training')} that began from a checkpoint it is not recorded, or not in "
            "whole, whether that one was trained on the validation trajectories.",
            silent,
        )
    unknown = tuple(one.name for one in found if one.finished and one.validation and one.split is None)
    if unknown:
        yield Caveat(
            "validation not compared",
            f"Of {count(len(unknown), 'training')} it is not recorded whether validation trajectories are "
            "also training trajectories (earlier versions split by episode and did not look).",
            unknown,
        )


def _labels(found: Sequence[TrainingResult], agents: Sequence[AgentResult]) -> Iterator[Caveat]:
    called = {agent.label for agent in agents}
    others = tuple(
        one.label
        for one in found
        if one.finished and one.label in called and one.label not in one.evaluated_as
    )
    if others:
        yield Caveat(
            "training label",
            f"{count(len(others), 'agent has', 'agents have')} the label of a training without being "
            "its final checkpoint: the scores and the curves under that label are of different weights.",
            others,
        )


def _differences(trainings: Sequence[Training]) -> Iterator[Caveat]:
    if other_data(trainings):
        fields = [("trajectories", lambda one: _stores(one.facts.stores))]
        fields += [(name, _field(name)) for name in _names(trainings) if _selects(name)]
        yield Caveat(
            "training data",
            "These trainings did not see the same data, so neither their losses nor their agents' scores "
            "tell models apart; a comparison of backbones must share data, recipe and seeds.",
            tuple(_differing_fields(trainings, fields)),
        )


def _stores(stores: tuple[str, ...] | None) -> str:
    if stores is None:
        return _UNSAID
    return ", ".join(sorted(digest[:12] for digest in stores)) or "none named"


def _lengths(found: Sequence[TrainingResult]) -> Iterator[Caveat]:
    updates, tokens = [one.updates for one in found], [one.tokens for one in found]
    if len(set(updates)) > 1 or max(tokens) - min(tokens) > SAME_TOKENS * max(tokens):
        yield Caveat(
            "training length",
            "These trainings are not equally long: compare their losses at equal updates or tokens in the "
            "curves, not their last ones.",
            tuple(f"{one.label}: {count(one.updates, 'update')}, {one.tokens:,} tokens" for one in found),
        )


def _recipes(trainings: Sequence[Training]) -> Iterator[Caveat]:
    fields: list[tuple[str, Callable[[Training], str]]] = [
        (name, _field(name))
        for name in _names(trainings)
        if not name.startswith(("model.", "data.")) and name not in _TRAINS_ALIKE
    ]
    fields += [("processes", lambda one: str(one.facts.processes)), ("began from", _origin)]
    seeds: dict[Hashable, set[object]] = {}
    for one in trainings:
        seeds.setdefault(_model(one), set()).add(one.facts.seed)
    if len({frozenset(of_model) for of_model in seeds.values()}) > 1:
        fields.insert(0, ("seed", _field("seed")))
    differences = tuple(_differing_fields(trainings, fields))
    if differences:
        yield Caveat(
            "training recipe",
            f"These trainings differ in {count(len(differences), 'field')} of the recipe beside the model, "
            "which can be what makes the difference; a comparison of backbones must share data, recipe and "
            "seeds.",
            differences,
        )


def _origin(training: Training) -> str:
    if training.facts.began_from:
        return f"checkpoint {training.facts.began_from[:12]}"
    # A run of which no state is there yet tells that it continues with a checkpoint, not with which.
    return f"a checkpoint, {_UNSAID}" if training.facts.recipe.get("model.init_from") else "random weights"


def _model(training: Training) -> Hashable:
    model = training.facts.model
    plain = config_to_dict(replace(model, name="")) if model else None
    return _origin(training), msgspec.json.encode(plain, order="sorted")


def _seeds(trainings: Sequence[Training]) -> Iterator[Caveat]:
    seeds: dict[Hashable, list[Training]] = {}
    for one in trainings:
        recipe = {
            name: value
            for name, value in one.facts.recipe.items()
            if name not in FREE and name != "seed" and not name.startswith("model.")
        }
        alike = (_model(one), _data(one), one.facts.processes, msgspec.json.encode(recipe, order="sorted"))
        seeds.setdefault(alike, []).append(one)
    single = [
        ", ".join(one.label for one in group)
        for group in seeds.values()
        if len({one.facts.seed for one in group}) == 1
    ]
    if single:
        yield Caveat(
            "training seed",
            f"{count(len(single), 'model was', 'models were')} trained with one seed"
            f"{'' if len(single) == 1 else ' each'}: the noise between "
            "training seeds is not measured, and a difference of that size tells no models apart.",
            tuple(single),
        )


def _machines(found: Sequence[TrainingResult]) -> Iterator[Caveat]:
    by_machine: dict[str, list[str]] = {}
    for one in found:
        if one.machine:
            by_machine.setdefault(one.machine, []).append(one.label)
    if len(by_machine) > 1:
        yield Caveat(
            "training machine",
            "These trainings ran on different machines: their seconds and tokens a second do not compare.",
            tuple(f"{', '.join(labels)}: {machine}" for machine, labels in by_machine.items()),
        )


def _names(trainings: Sequence[Training]) -> list[str]:
    return list(dict.fromkeys(name for one in trainings for name in one.facts.recipe))


def _field(name: str) -> Callable[[Training], str]:
    def value(training: Training) -> str:
        found = training.facts.recipe.get(name)
        return (
            "not set"
            if found is None
            else ", ".join(map(str, found))
            if isinstance(found, list)
            else str(found)
        )

    return value


def _differing_fields(
    trainings: Sequence[Training], fields: Sequence[tuple[str, Callable[[Training], str]]]
) -> Iterator[str]:
    """Yield a sentence for each field that not all trainings have alike."""
    for name, value in fields:
        by_value: dict[str, list[str]] = {}
        for one in trainings:
            by_value.setdefault(value(one), []).append(one.label)
        if len(by_value) > 1:
            yield f"{name}: " + "; ".join(f"{text} ({names(labels)})" for text, labels in by_value.items())
