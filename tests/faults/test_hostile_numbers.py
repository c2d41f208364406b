"""Numbers that cannot be meant: every count of every part and section has an upper bound, checked before anything is allocated."""

import re
import resource
import time

import pytest
from pydantic import TypeAdapter, ValidationError

import etsdm
from etsdm.errors import EtsdmError, PartError, RecipeError, RegistryError
from etsdm.recipe import Compute, Recipe
from etsdm.registry import REGISTRIES, format_errors
from etsdm.registry.counts import Seed
from etsdm.sampling.config import Sampling
from etsdm.training import Training


def classes():
    for registry in REGISTRIES.values():
        for part in registry.classes().values():
            if part.__name__ != "External":
                yield part
    from etsdm.denoisers.super_resolution import SuperResolution
    from etsdm.metrics.config import Evaluation

    yield from (Recipe, Training, Sampling, Compute, Evaluation, SuperResolution)


def of_type(schema, kinds):
    """Schemas of these types in the schema of one field."""
    found = [schema] if schema.get("type") in kinds else []
    for choice in schema.get("anyOf", []) + schema.get("prefixItems", []):
        found += of_type(choice, kinds)
    if isinstance(schema.get("items"), dict):
        found += of_type(schema["items"], kinds)
    return found


def fields(kinds):
    for part in classes():
        for name, schema in part.model_json_schema()["properties"].items():
            for entry in of_type(schema, kinds):
                is_list = bool(of_type(schema, {"array"}))
                yield pytest.param(part, name, entry, is_list, id=f"{part.__name__}.{name}")


INTEGERS = list(fields({"integer"}))
NUMBERS = [*INTEGERS, *fields({"number"})]


def test_the_fields_are_found():
    found = {param.id for param in INTEGERS}
    assert {"Linear.timesteps", "ADMUNet.num_res_blocks", "DDIM.steps", "Training.images", "Sampling.n", "Recipe.seeds"} <= found
    assert len(found) > 90


def each(params):
    return pytest.mark.parametrize(("part", "name", "schema", "is_list"), params)


@each(INTEGERS)
def test_every_integer_has_an_upper_bound(part, name, schema, is_list):
    if name == "held_out":  # either a share or a number, which are bounded together
        return
    most = schema.get("maximum", schema.get("exclusiveMaximum", max(schema.get("enum", [0]))))
    assert 0 < most <= 10**12 or "seed" in name


def problems(part, name, value, is_list):
    with pytest.raises(ValidationError) as caught:
        part.model_validate({name: [value, value] if is_list else value})
    found = [problem.message for problem in format_errors(caught.value) if problem.location[0] == name]
    assert found
    assert all(len(message) < 300 for message in found)
    return found


@each(INTEGERS)
def test_huge_integers_are_refused(part, name, schema, is_list):
    for value in (10**19, 10**30, 1e13, 1e300, 10**5000, -(10**30)):
        if not ("seed" in name and value == 1e13):
            problems(part, name, value, is_list)


@each(NUMBERS)
def test_truth_values_and_text_are_no_numbers(part, name, schema, is_list):
    for value in (True, False, "12", "0.5", "1e3", " 1 "):
        found = problems(part, name, value, is_list)
        assert any(re.search("give (a|an|the name|[0-9, ]+ or|true or)|unknown", message) for message in found)


@each(fields({"boolean"}))
def test_numbers_and_text_are_no_truth_values(part, name, schema, is_list):
    for value in (1, 0, "true", "yes", "on", 1.0):
        assert any(re.search("give (true or false|true|false)", message, re.IGNORECASE) for message in problems(part, name, value, is_list))


def test_an_integer_may_be_written_with_an_exponent():
    assert etsdm.build("digits", "training.images=1e4").recipe.training.images == 10_000


def test_a_bound_says_why():
    with pytest.raises(RegistryError, match=r"timesteps: found 1,000,000,000,000; give 100,000 or less: a schedule keeps a table"):
        REGISTRIES["schedules"].create("linear", timesteps=10**12)


LARGE = {
    "model.backbone={type: mlp, image_size: 8, in_channels: 1, out_channels: 1, width: 65536, depth: 300}": "1 TB",
    "model.backbone={type: dit, image_size: 8, in_channels: 1, out_channels: 1, patch_size: 1, hidden_size: 65536, depth: 100, "
    "num_heads: 1}": "1 TB",
    "model.backbone={type: adm-unet, image_size: 8, in_channels: 1, out_channels: 1, model_channels: 32, num_res_blocks: 300, "
    "channel_mult: [1, 1, 1, 1], attention_resolutions: [1, 2, 4, 8]}": "6,000 tensors",
    "model.backbone.num_res_blocks=1000000000": "300 or less",
    "model.backbone.channel_mult=[1e300, 1e300]": "1024 or less",
    "model.schedule.timesteps=1000000000000": "100,000 or less",
    "model.schedule.timesteps=100000000": "100,000 or less",
    "training.batch_size=1048577": "1,048,576 or less",
    "seeds=[" + "1, " * 2000 + "]": "1000 or fewer",
}


@pytest.mark.parametrize("override", LARGE)
def test_large_recipes_are_refused_before_anything_is_allocated(override):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(RecipeError, match=LARGE[override]):
        etsdm.build("digits", override)
    assert time.process_time() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_large_batch_is_refused():
    data = "data={type: image-folder, path: a, image_size: 1024}"
    shape = "image_size: 1024, in_channels: 3, out_channels: 3, patch_size: 32"
    network = f"model.backbone={{type: dit, {shape}, hidden_size: 32, depth: 1, num_heads: 1}}"
    with pytest.raises(RecipeError, match=r"training.batch_size: 20,000 images of 3x1024x1024 are 252 GB; give fewer"):
        etsdm.build("digits", data, network, "training.batch_size=20000")


def test_a_network_larger_than_the_memory_is_not_made(tmp_path):
    # 270 GB of weights: valid as a recipe, for another machine.
    wide = "model.backbone={type: mlp, image_size: 8, in_channels: 1, out_channels: 1, width: 65536, depth: 4}"
    experiment = etsdm.build("digits", wide, "model.backbone.depth=4", out=tmp_path)
    with pytest.raises(PartError, match=r"backbone: the network has .* GB of weights .*, and this machine or container has .* give fewer"):
        experiment.recipe.model.build()
    with pytest.raises(EtsdmError, match=r"model.backbone: the network has .* GB of weights"):
        experiment.train()


def test_seeds_may_be_negative_only_where_they_name_no_folder():
    assert TypeAdapter(Seed).validate_python(-1) == -1
    with pytest.raises(RecipeError, match=r"seeds.0"):
        etsdm.build("digits", "seeds=[-1]")
