"""Recipes: what a file says is what is trained, and what it must not say is told in one sentence."""

from __future__ import annotations

import configparser
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lram.agents.api import AgentError
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.experts.actors import actor_tasks
from lram.agents.experts.heuristics import CONTROLLERS
from lram.agents.experts.planning.problems import PROBLEMS
from lram.agents.model.config import ModelConfig, config_to_dict
from lram.agents.model.network import ActionModel, without_memory
from lram.agents.model.presets import parse_preset
from lram.agents.training.recipe import (
    ModelSection,
    Recipe,
    describe_fields,
    model_config,
    recipe_digest,
    recipe_to_dict,
)
from lram.agents.training.recipe_text import (
    changed,
    names_warmup,
    read_recipe,
    recipe_from_dict,
    render_recipe,
)
from lram.agents.training.settings import parse_value
from lram.envs.registry import suites

RECIPES = Path(__file__).parents[2] / "agents" / "recipes"  # of the checkout: they are not installed
ODD = """
name = 'odd "name" \\ with an ö'
[model]
preset = "xlstm-1M"
layers = 4
xlstm = {slstm_at = [1, 3]}
[data]
stores = ["a", "b c"]
[sampling]
domain_sequences = {atari = 8, "my domain" = 2}
"""


def test_the_defaults_are_the_reference_s_recipe_in_optimiser_updates() -> None:
    recipe = Recipe()
    optimizer = recipe.optimizer
    assert optimizer.updates == 200_000 // 6
    assert optimizer.warmup_updates == round(4_000 / 6)
    assert (optimizer.learning_rate, optimizer.final_learning_rate) == (1e-4, 1e-6)
    assert (optimizer.weight_decay, optimizer.clip, optimizer.accumulate) == (0.01, 0.25, 0)
    assert (recipe.sampling.context, recipe.sampling.sequences) == (50, 32)
    assert recipe.data.validation_share == 0.025
    assert recipe.validation.every == 50_000 // 6


@pytest.mark.parametrize("text", ["", ODD])
def test_a_written_recipe_reads_as_the_same_recipe(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    recipe = read_recipe(path)
    path.write_text(render_recipe(recipe))
    assert read_recipe(path) == recipe


def test_a_model_of_any_kind_survives_a_recipe_as_overrides(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    unbounded = TransformerConfig(heads=4, positions="rotary", window=None, cache="full")
    for config in (
        parse_preset("mamba-1M"),
        ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,)), actions_in_context=True, decode="lower"),
        ModelConfig(64, 2, backbone=unbounded),
    ):
        path.write_text(render_recipe(Recipe(model=ModelSection(overrides=config_to_dict(config)))))
        assert model_config(read_recipe(path).model) == config


def test_overrides_change_a_preset_and_leave_the_rest() -> None:
    recipe = read_recipe(
        None, ["model.preset=xlstm[7:1]-1M", "model.xlstm.slstm_at=[1, 3]", "model.actions_in_context=true"]
    )
    preset = parse_preset("xlstm[7:1]-1M")
    expected = replace(preset, actions_in_context=True, backbone=replace(preset.backbone, slstm_at=(1, 3)))
    assert model_config(recipe.model) == expected


def test_settings_go_over_the_file_and_need_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 3\n[optimizer]\nupdates = 10\nclip = 1\n")
    recipe = read_recipe(
        path,
        [
            "optimizer.updates=20",
            "data.stores=runs/a",
            "model.preset=mamba-1M",
            "sampling.domain_weights.atari=2",
        ],
    )
    assert (recipe.seed, recipe.optimizer.updates, recipe.optimizer.clip) == (3, 20, 1.0)
    assert (recipe.data.stores, recipe.model.preset) == (("runs/a",), "mamba-1M")
    assert recipe.sampling.domain_weights == {"atari": 2}
    assert changed(recipe, ["seed=4"]) == replace(recipe, seed=4)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.lerning_rate=1", ["optimizer.lerning_rate", "optimizer.learning_rate"]),
        ("learning_rate=1", ["learning_rate", "did you mean optimizer.learning_rate"]),
        ("nonsense.field=1", ["nonsense", "known", "optimizer"]),
        ("model.widht=3", ["model.widht", "model.width"]),
        ("optimizer.clip=-1", ["optimizer.clip", ">= 0"]),
        ("optimizer.learning_rate=nan", ["optimizer.learning_rate", "nan"]),
        ("optimizer.learning_rate=inf", ["optimizer.learning_rate", "inf"]),
        ("optimizer.updates=1.5", ["optimizer.updates", "int"]),
        ("data.top_fraction=1.5", ["data.top_fraction", "<= 1"]),
        ("sampling.domain_weights.atari=-1", ["sampling.domain_weights", ">= 0"]),
        ("optimizer.precision=half", ["optimizer.precision", "half", "bfloat16"]),
        ("optimizer=3", ["optimizer", "int"]),
        ("updates", ["section.field=value"]),
        ("data.tasks=[a,b", ["--set", "[a,b", "not closed"]),
    ],
)
def test_a_bad_field_is_named_with_what_it_may_be(setting: str, words: list[str]) -> None:
    with pytest.raises(AgentError) as caught:
        read_recipe(None, [setting])
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_the_model_s_own_sections_are_checked_when_it_is_made() -> None:
    recipe = read_recipe(None, ["model.preset=xlstm-1M", "model.xlstm.slst_at=[1]"])
    with pytest.raises(AgentError, match=r"xlstm\.slst_at"):
        model_config(recipe.model)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ([], "data.stores"),
        (["data.stores=a", "optimizer.updates=100", "optimizer.warmup_updates=667"], "warmup_updates"),
        (["data.stores=a", "optimizer.final_learning_rate=1"], "final_learning_rate"),
    ],
)
def test_what_no_field_alone_can_tell_is_checked(settings: list[str], word: str) -> None:
    with pytest.raises(AgentError, match=word):
        read_recipe(None, settings).check()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.tasks=a/b,c/*", ["a/b", "c/*"]),
        ("data.tasks=[a/b, c/d]", ["a/b", "c/d"]),
        ('data.tasks=["a/b",c/d]', ["a/b", "c/d"]),
        ("data.tasks=a/[xy]*", ["a/[xy]*"]),
        ("data.tasks=a/[x,y]*", ["a/[x,y]*"]),
        ("data.policies=[1,2]", [1, 2]),
        ("saving.trackers=[]", []),
        ("model.xlstm.slstm_at=1,3", [1, 3]),
        ("model.xlstm.slstm_at=1", [1]),
        ("model.decode=center", "center"),
        ("model.preset=xlstm[7:1]-1M", "xlstm[7:1]-1M"),
        ("model.mamba.dt_rank=None", "none"),
        ("model.unknown=[mlstm,slstm]", ["mlstm", "slstm"]),
        ("sampling.fill=True", True),
        ("sampling.fill=false", False),
        ("sampling.domain_weights={atari=2, my-domain=1}", {"atari": 2, "my-domain": 1}),
        ("model.xlstm={slstm_at=[1,2], kind=new}", {"slstm_at": [1, 2], "kind": "new"}),
        ("name=2024-01-01", "2024-01-01"),
        ("name='a b'", "a b"),
        ("name=[draft", "[draft"),
    ],
)
def test_a_setting_needs_no_quotes_to_mean_what_it_says(setting: str, value: object) -> None:
    name, _, text = setting.partition("=")
    found = parse_value(name, text)
    assert found == value
    assert type(found) is type(value)


def test_a_store_s_folder_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert parse_value("data.stores", f"{tmp_path}/a,b") == [f"{tmp_path}/a,b"]
    assert parse_value("data.stores", f"{tmp_path}/a,c") == [f"{tmp_path}/a", "c"]


@pytest.mark.parametrize(
    ("settings", "warmup"),
    [
        ([], 667),
        (["optimizer.updates=668"], 667),
        (["optimizer.updates=667"], 13),
        (["optimizer.updates=100"], 2),
        (["optimizer.updates=1"], 0),
        (["optimizer.updates=100", "optimizer.warmup_updates=50"], 50),
    ],
)
def test_only_a_default_warm_up_without_room_is_scaled_down(
    settings: list[str], warmup: int, tmp_path: Path
) -> None:
    recipe = read_recipe(None, ["data.stores=a", *settings])
    recipe.check()
    assert recipe.optimizer.warmup_updates == warmup
    (tmp_path / "recipe.toml").write_text(render_recipe(recipe))
    assert read_recipe(tmp_path / "recipe.toml") == recipe, "the value is recorded"


def test_fewer_updates_over_a_derived_recipe_take_their_warm_up_along() -> None:
    recipe = read_recipe(None, ["optimizer.updates=1000", "optimizer.warmup_updates=20"])
    assert changed(recipe, ["optimizer.updates=500"]).optimizer.warmup_updates == 20
    assert changed(recipe, ["optimizer.updates=20"]).optimizer.warmup_updates == 0
    told = changed(recipe, ["optimizer.updates=20", "optimizer.warmup_updates=3"])
    assert told.optimizer.warmup_updates == 3


@pytest.mark.parametrize("override", [[], ["model.xlstm.heads=2"], ["model.layers=4"]])
def test_an_expanded_preset_says_every_field_and_reads_as_the_same_recipe(
    override: list[str], tmp_path: Path
) -> None:
    recipe = read_recipe(None, ["model.preset=xlstm[7:1]-1M", *override])
    file = tmp_path / "recipe.toml"
    text = render_recipe(recipe, expand=True)
    file.write_text(text)
    assert read_recipe(file) == recipe
    assert recipe_digest(read_recipe(file)) == recipe_digest(recipe)
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    file.write_text("\n".join(lines))
    written_out = read_recipe(file)
    assert set(config_to_dict(model_config(recipe.model))) <= {*written_out.model.overrides}
    assert model_config(written_out.model) == model_config(recipe.model)
    with pytest.raises(AgentError, match="there is no model preset"):
        render_recipe(read_recipe(None, ["model.preset=foo-1M"]), expand=True)


def test_a_broken_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 1\nname = = 2")
    with pytest.raises(AgentError, match=r"not TOML.*line 2"):
        read_recipe(path)
    with pytest.raises(AgentError, match="there is no recipe"):
        read_recipe(tmp_path / "none.toml")


def test_the_digest_is_of_what_decides_the_numbers() -> None:
    recipe = read_recipe(None, ["model.preset=mamba-1M", "data.stores=a"])
    same = changed(recipe, ["sampling.workers=4", "saving.keep=1", "name=b", 'data.stores=["moved/a"]'])
    assert recipe_digest(same) == recipe_digest(recipe)
    for setting in ("seed=1", "threads=2", "saving.metrics_every=3", "model.layers=4", "optimizer.clip=1"):
        assert recipe_digest(changed(recipe, [setting])) != recipe_digest(recipe)


def test_a_later_field_left_alone_does_not_change_the_digests_that_checkpoints_carry() -> None:
    for folder in shipped_checkpoints().values():
        card = json.loads((folder / "config.json").read_text(encoding="utf-8"))["card"]
        recipe = recipe_from_dict(card["recipe"])
        assert recipe_digest(recipe) == card["recipe_digest"]
        assert recipe_digest(changed(recipe, ["sampling.fill=true"])) != card["recipe_digest"]


def test_every_field_is_described() -> None:
    rows = {row.name: row for row in describe_fields()}
    assert all(row.description for row in rows.values())
    assert rows["optimizer.learning_rate"].default == 1e-4
    assert "model.FIELD" in rows


@pytest.mark.parametrize(
    "setting",
    [
        "sampling.context=1000000000000",
        "sampling.sequences=1000000000000",
        "sampling.domain_sequences={atari = 1000000000000}",
        "sampling.domain_weights={atari = 1000000000}",
        "sampling.workers=1000000000",
        "optimizer.accumulate=1000000000",
        "optimizer.updates=1000000000000",
        "optimizer.learning_rate=1e300",
        "validation.windows=1000000000000",
        "seed=9223372036854775808",
        "threads=1000000000",
        f"seed={'9' * 5000}",
        f"optimizer.clip={'9' * 400}",
        "seed=true",
        "optimizer.eps=nan",
    ],
)
def test_a_number_without_end_is_one_short_sentence(setting: str) -> None:
    with pytest.raises(AgentError) as caught:
        read_recipe(None, [setting])
    assert setting.partition("=")[0].removesuffix("s") in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_micro_batch_that_no_memory_holds_is_refused() -> None:
    recipe = read_recipe(None, ["data.stores=s", "sampling.context=100000", "sampling.sequences=100000"])
    with pytest.raises(AgentError, match="more than the 100000000 timesteps that a micro-batch may have"):
        recipe.check()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"x = " + b"[" * 100_000, "is not TOML"),
        (b"seed = " + b"9" * 5000, "is not TOML"),
        (b"#" * (1 << 20) + b"\n", "has more than 1048576 bytes"),
        (b'"\x1b[2J" = 1', "is not TOML"),
        (b'"a\\u001b[2J" = 1', r"a\\x1b\[2J that is not known"),
    ],
)
def test_a_hostile_file_is_one_short_sentence(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(AgentError, match=word) as caught:
        read_recipe(tmp_path / "recipe.toml")
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(AgentError, match="is not a regular file"):
        read_recipe(tmp_path / "recipe.toml")


DIGESTS = {
    "darkroom-xlstm-1-0": "1a4b6b37a0d1d2f7cd0bf7872c7f287a7b2549dd28bcf960e29c00c3d3e5d176",
    "darkroom-xlstm-7-1": "9303af79814138479a8898d78bf441cf55f57dc0619d251a9963785478bb5db4",
    "small-long": "2c973479fedbfd37490dea446c0e36020e829134d209890f708e991b488cc152",
    "small-mamba": "118f60bd752d5e20ddb476ba68dd75b6b97e1194e39e65dd1392e5e9bd65f88f",
    "small-transformer": "2da480b2d559e7e280bbeabcbc064eb1c0e679f0f04d0944062cfe9c09910418",
    "small-xlstm-1-0": "13223420176d177ed622c307403bd92e40b1e8b50f24035ec5fb461bb9ee803e",
    "small-xlstm-7-1": "6debf055b8c5560b3dbd7f6b8a75eb6326c798e1079b49dd71bc8da9f8b6e619",
}
"""Of the recipes as they were written out whole, before they had bases."""


@pytest.mark.parametrize("name", DIGESTS)
def test_the_recipes_of_the_shipped_trainings_say_what_they_always_said(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert (recipe.name, recipe_digest(recipe)) == (name, DIGESTS[name])
    (tmp_path / "whole.toml").write_text(render_recipe(recipe, expand=True))
    assert read_recipe(tmp_path / "whole.toml", written_out=True) == recipe


ZOO = ("zoo-xlstm-1-0", "zoo-xlstm-7-1", "zoo-mamba", "zoo-transformer")


def test_the_recipes_of_the_zoo_differ_in_the_model_alone() -> None:
    recipes = {name: read_recipe(RECIPES / f"{name}.toml") for name in (*ZOO, "zoo-long")}
    assert all(recipe.name == name for name, recipe in recipes.items())
    presets = {name: recipes[name].model.preset for name in ZOO}
    assert len(set(presets.values())) == len(ZOO)
    assert all(1e6 < weights < 5e6 for weights in map(_weights, (recipes[name] for name in ZOO)))
    alike = {
        recipe_digest(replace(recipes[name], model=replace(recipes[name].model, preset=""))) for name in ZOO
    }
    assert len(alike) == 1
    assert {recipe.data for recipe in recipes.values()} == {recipes["zoo-mamba"].data}
    short = read_recipe(RECIPES / "zoo-short.toml")
    assert short.model == recipes["zoo-xlstm-1-0"].model
    assert set(short.data.tasks) < set(recipes["zoo-mamba"].data.tasks)


def test_the_zoo_is_collected_by_teachers_that_play_its_tasks_and_none_of_them_is_held_out() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(RECIPES.parents[1] / "tox.ini")
    scripted, planned, acted = (tox["zoo"][name].split(",") for name in ("scripted", "planned", "actors"))
    assert set(scripted) <= CONTROLLERS.keys()
    assert set(planned) <= PROBLEMS.keys() - set(scripted)
    assert {*scripted, *planned} <= set(suites()["dmcontrol11"])
    assert len(scripted + planned) == 9
    assert set(acted) == actor_tasks().keys()
    assert {*scripted, *acted} <= set(suites()["dmcontrol11"])


def _weights(recipe: Recipe) -> int:
    with without_memory():
        return ActionModel(model_config(recipe.model)).parameter_count


def test_a_recipe_goes_field_by_field_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "first.toml").write_text(
        """
        name = "first"
        seed = 3
        [model]
        preset = "xlstm-1M"
        xlstm = {heads = 2, slstm_at = [1]}
        [sampling]
        context = 20
        domain_weights = {atari = 8, toy = 2}
        [optimizer]
        updates = 90
        """
    )
    (tmp_path / "bases" / "second.toml").write_text('base = "first.toml"\n[sampling]\nsequences = 4\n')
    file = tmp_path / "third.toml"
    file.write_text(
        """
        base = "bases/second.toml"
        name = "third"
        [model.xlstm]
        slstm_at = [3]
        [sampling]
        sequences = 5
        domain_weights = {toy = 1}
        """
    )
    recipe = read_recipe(file, ["sampling.context=30"])
    assert (recipe.name, recipe.seed) == ("third", 3)
    assert recipe.model == ModelSection("xlstm-1M", overrides={"xlstm": {"heads": 2, "slstm_at": [3]}})
    assert (recipe.sampling.context, recipe.sampling.sequences) == (30, 5)
    assert recipe.sampling.domain_weights == {"toy": 1}, "a field that is a dictionary is one value"
    assert (recipe.optimizer.updates, recipe.optimizer.warmup_updates) == (90, 1)
    assert not names_warmup(file)
    (tmp_path / "bases" / "second.toml").write_text('base = "first.toml"\noptimizer.warmup_updates = 7\n')
    assert names_warmup(file)
    assert read_recipe(file).optimizer.warmup_updates == 7


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (
            '"gone.toml"',
            r"recipe.toml: there is no recipe .*gone.toml, which it names as its base; fix the path",
        ),
        ('"recipe.toml"', r"leads back to it \(recipe.toml -> recipe.toml\); take one of them away"),
        (
            '"round.toml"',
            r"round.toml: its base leads back to it \(recipe.toml -> round.toml -> recipe.toml\)",
        ),
        (
            '"odd.toml"',
            r"odd.toml has a field sampling.contxt that is not known; did you mean sampling.context",
        ),
        ('"broken.toml"', r"broken.toml is not TOML"),
        ('"folder"', r"folder cannot be read"),
        ("3", r"recipe.toml: base is '3', which names no recipe; write base = \"other.toml\""),
        ('""', r"base is '', which names no recipe"),
        ('"a\\u0000b"', r"which names no recipe"),
        (f'"{"x" * 400}"', r"there is no recipe"),
    ],
)
def test_a_base_that_cannot_be_read_is_named(base: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f"base = {base}\n")
    (tmp_path / "round.toml").write_text('base = "recipe.toml"\n')
    (tmp_path / "odd.toml").write_text('base = "whole.toml"\nsampling.contxt = 3\n')
    (tmp_path / "whole.toml").write_text("seed = 1\n")
    (tmp_path / "broken.toml").write_text("seed =\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AgentError, match=sentence):
        read_recipe(tmp_path / "recipe.toml")


def test_a_recipe_that_a_training_wrote_out_has_no_base(tmp_path: Path) -> None:
    (tmp_path / "whole.toml").write_text("seed = 1\n")
    (tmp_path / "recipe.toml").write_text('base = "whole.toml"\n')
    with pytest.raises(AgentError, match="has a field base that is not known"):
        read_recipe(tmp_path / "recipe.toml", written_out=True)


def test_a_tower_of_bases_has_an_end(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.toml").write_text(f'base = "{number + 1}.toml"\n')
    (tmp_path / "40.toml").write_text("seed = 1\n")
    assert read_recipe(tmp_path / "30.toml").seed == 1
    with pytest.raises(AgentError, match="more than 16 recipes are based on one another"):
        read_recipe(tmp_path / "0.toml")


OLD_DATA = """
[data]
stores = ["a"]
tasks = ["*"]
policies = ["*"]
top_fraction = 1.0
validation_share = 0.025
seed = 1
"""
EARLIER, TODAY = "transformer[ring]-1M", "transformer[recompute]-1M"


def test_a_renamed_preset_means_what_the_one_who_names_it_means(tmp_path: Path) -> None:
    """A file that an earlier version wrote out names the earlier model; who names it now, today's."""
    old, short = tmp_path / "old.toml", tmp_path / "short.toml"
    old.write_text(f'[model]\npreset = "transformer-1M"\n{OLD_DATA}')
    short.write_text('[model]\npreset = "transformer-1M"\n')
    assert read_recipe(old).model.preset == EARLIER
    assert read_recipe(short).model.preset == TODAY
    named = ["model.preset=transformer-1M"]
    for file in (old, short, None):
        assert read_recipe(file, named).model.preset == TODAY
        assert changed(read_recipe(file), named).model.preset == TODAY
        assert read_recipe(file, ['model={preset="transformer-1M"}']).model.preset == TODAY
    assert read_recipe(old, ["optimizer.updates=5"]).model.preset == EARLIER
    over = tmp_path / "over.toml"
    over.write_text('base = "old.toml"\n[model]\nwidth = 32\n')
    assert read_recipe(over).model.preset == EARLIER
    over.write_text('base = "old.toml"\n[model]\npreset = "transformer-1M"\n')
    assert read_recipe(over).model.preset == TODAY
    over.write_text(f'base = "short.toml"\n{OLD_DATA}')
    assert read_recipe(over).model.preset == TODAY


def test_a_renamed_preset_of_a_recipe_in_python_is_written_out_as_what_it_trains() -> None:
    recipe = Recipe(model=ModelSection("transformer-1M"))
    read = recipe_from_dict(recipe_to_dict(recipe))
    assert read.model.preset == TODAY
    assert model_config(read.model).backbone == model_config(recipe.model).backbone
    assert (
        recipe_digest(read)
        == recipe_digest(recipe)
        != recipe_digest(Recipe(model=ModelSection("transformer[ring]-1M")))
    )


def test_a_later_backbone_takes_the_place_of_the_preset_and_keeps_its_sizes(tmp_path: Path) -> None:
    base, over = tmp_path / "base.toml", tmp_path / "over.toml"
    base.write_text('[model]\npreset = "xlstm[7:1]-1M"\nlayers = 3\n[model.xlstm]\nheads = 2\n')
    over.write_text('base = "base.toml"\n[model]\nbackbone = "gru"\n')
    preset = parse_preset("xlstm[7:1]-1M")
    for recipe in (
        read_recipe(over),
        read_recipe(base, ["model.backbone=gru"]),
        changed(read_recipe(base), ["model.backbone=gru"]),
        read_recipe(over, ["model.backbone=gru"]),
    ):
        assert recipe.model.preset == ""
        assert recipe.model.overrides == {"width": preset.width, "layers": 3, "backbone": "gru"}
        assert model_config(recipe.model).kind == "gru"
    with_options = read_recipe(base, ["model.gru.hidden=24", "model.backbone=gru"])
    assert with_options.model.overrides["gru"] == {"hidden": 24}
    assert read_recipe(over, ["model.backbone=lstm"]).model.overrides["backbone"] == "lstm"
    # What a preset of the same kind says stays, and so do options where the backbone is the same.
    assert read_recipe(base, ["model.backbone=xlstm"]).model == replace(
        read_recipe(base).model, overrides={"layers": 3, "backbone": "xlstm", "xlstm": {"heads": 2}}
    )
    for settings in (["model.preset=gru-1M", "model.backbone=xlstm"], ["model.gru.hidden=3"]):
        with pytest.raises(AgentError, match=r"has two backbones, .*leave one of them out"):
            model_config(read_recipe(base, settings).model)


def test_a_base_s_own_backbone_takes_options(tmp_path: Path) -> None:
    base, over = tmp_path / "base.toml", tmp_path / "over.toml"
    base.write_text('[model]\nbackbone = "mine:SPEC"\nwidth = 32\nlayers = 2\n')
    over.write_text('base = "base.toml"\n[model.leaky]\nhidden = 64\n')
    assert read_recipe(over).model.overrides["leaky"] == {"hidden": 64}
    assert "leaky" not in read_recipe(over, ["model.backbone=gru"]).model.overrides
    base.write_text("[model]\nwidth = 32\nlayers = 2\n")
    assert read_recipe(over, ["model.backbone=mine:SPEC"]).model.overrides["leaky"] == {"hidden": 64}
    with pytest.raises(AgentError, match=r"has a field model\.leaky that is not known"):
        read_recipe(over)
    over.write_text('base = "base.toml"\n[model]\nwdith = 64\n')
    with pytest.raises(AgentError, match=r"over\.toml has a field model\.wdith .*did you mean model\.width"):
        read_recipe(over)


OWN_BACKBONE = (
    "from dataclasses import dataclass\n"
    "from lram.agents.backbones import BackboneSpec\n"
    "@dataclass(frozen=True)\n"
    "class Options:\n"
    "    hidden: int = 8\n"
    "@dataclass(frozen=True)\n"
    "class Others:\n"
    "    wide: int = 8\n"
    'LEAKY = BackboneSpec("own_leaky", Options, "own_two:Options")\n'
    'WIDER = BackboneSpec("own_wider", Others, "own_two:Others")\n'
)


def test_a_later_preset_or_own_backbone_takes_the_place_of_a_base_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_two.py").write_text(OWN_BACKBONE)
    monkeypatch.syspath_prepend(tmp_path)
    base, over = tmp_path / "base.toml", tmp_path / "over.toml"
    base.write_text(
        '[model]\nbackbone = "own_two:LEAKY"\nwidth = 32\nlayers = 2\nactions_in_context = true\n'
        "[model.own_leaky]\nhidden = 3\n"
    )
    over.write_text('base = "base.toml"\n[model]\npreset = "gru-1M"\nlayers = 3\n')
    for recipe in (read_recipe(over), read_recipe(base, ["model.preset=gru-1M", "model.layers=3"])):
        assert recipe.model.preset == "gru-1M"
        assert recipe.model.overrides == {"actions_in_context": True, "layers": 3}
        config = model_config(recipe.model)
        assert (config.kind, config.width) == ("gru", parse_preset("gru-1M").width)
    # A preset of the kind that is there leaves it as it is.
    base.write_text('[model]\nbackbone = "gru"\nwidth = 32\nlayers = 2\n')
    assert model_config(read_recipe(base, ["model.preset=gru-1M"]).model).width == 32


def test_options_of_another_backbone_of_ones_own_are_refused_and_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_two.py").write_text(OWN_BACKBONE)
    monkeypatch.syspath_prepend(tmp_path)
    base = tmp_path / "base.toml"
    base.write_text(
        '[model]\nbackbone = "own_two:LEAKY"\nwidth = 32\nlayers = 2\n[model.own_leaky]\nhidden = 3\n'
    )
    wider = ["model.backbone=own_two:WIDER", "model.own_wider.wide=4"]
    with pytest.raises(AgentError, match=r"section own_leaky, .* kind own_wider; take the section out, or"):
        model_config(read_recipe(base, wider).model)
    recipe = read_recipe(base, [*wider, "model.own_leaky=none"])
    assert model_config(recipe.model).backbone.wide == 4
    assert model_config(recipe_from_dict(recipe_to_dict(recipe)).model) == model_config(recipe.model)
    with pytest.raises(AgentError, match="has no field decodes"):
        model_config(read_recipe(base, ["model.decodes=none"]).model)


def test_an_own_backbone_s_option_may_be_the_word_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worded_backbone.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import Literal\n"
        "from lram.agents.backbones import BackboneSpec\n"
        "@dataclass(frozen=True)\n"
        "class Options:\n"
        '    norm: Literal["none", "layer"] = "layer"\n'
        '    gate: str = "silu"\n'
        "    window: int | None = 3\n"
        "    name: str | None = 'x'\n"
        'SPEC = BackboneSpec("worded", Options, "worded_backbone:Options")\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = ("norm", "gate", "window", "name")
    recipe = read_recipe(
        None,
        [
            "model.backbone=worded_backbone:SPEC",
            "model.width=8",
            "model.layers=1",
            *(f"model.worded.{name}=none" for name in names),
        ],
    )
    options = model_config(recipe.model).backbone
    assert [getattr(options, name) for name in names] == ["none", "none", None, None]
