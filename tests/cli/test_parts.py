"""`etsdm parts` with a name: the fields of one part, and what a backbone costs."""

import json
from unittest.mock import patch

import pytest
from entry_point import rows, run


def parts(*arguments):
    """What `etsdm parts` prints on a wide screen."""
    with patch.dict("os.environ", {"COLUMNS": "200"}):
        return run("parts", *arguments).stdout


def test_a_backbone_has_its_fields_and_a_table_of_what_it_costs():
    shown = parts("backbones", "adm-large")
    assert ["channel_mult", "list of number", "[1, 1, 2, 4, 6, 8]"] in [row[:3] for row in rows(shown)]
    assert '"32,64,8", are read as 32, 16 and 8.' in shown
    assert "2.904 GB of weights in float32" in shown  # 4 * 725956227
    levels = [row for row in rows(shown) if len(row) == 5]
    assert [row[0] for row in levels] == ["256x256", "128x128", "64x64", "32x32", "16x16", "8x8", "vectors", "all"]
    assert levels[-1][2] == "725,956,227"
    assert sum(int(row[2].replace(",", "")) for row in levels[:-1]) == 725956227
    assert "a multiply-add being two" in shown


def test_the_json_of_a_backbone_has_the_summary():
    found = json.loads(parts("backbones", "ddpm-cifar10", "--json"))
    assert found["type"] == "adm-unet"
    assert found["fields"]["model_channels"]["default"] == 128
    summary = found["summary"]
    assert (summary["batch"], summary["parameters"], summary["weights"]) == (1, 35746307, 4 * 35746307)
    assert [level["size"] for level in summary["levels"]] == [[32, 32], [16, 16], [8, 8], [4, 4], []]
    assert sum(level["flops"] for level in summary["levels"]) == summary["flops"]


def test_a_backbone_with_fields_to_be_set_has_no_summary():
    shown = parts("backbones", "adm-unet")
    assert ["image_size", "integer", "required"] in [row[:3] for row in rows(shown)]
    assert "FLOPs" not in shown
    assert "summary" not in json.loads(parts("backbones", "adm-unet", "--json"))


def test_a_network_of_vectors_and_one_of_tokens_name_their_levels():
    import etsdm.backbones.dit
    import etsdm.backbones.mlp  # noqa: F401

    assert [row[0] for row in rows(parts("backbones", "mlp-plane")) if len(row) == 5] == ["vectors", "all"]
    assert [row[0] for row in rows(parts("backbones", "dit-s-8")) if len(row) == 5] == ["4x4", "16 tokens", "vectors", "all"]


def test_other_parts_have_their_fields_alone():
    shown = parts("schedules", "linear")
    assert [row[:3] for row in rows(shown)] == [
        ["timesteps", "integer", "1000"],
        ["beta_start", "number", "0.0001"],
        ["beta_end", "number", "0.02"],
        ["grid", '"linspace" | "paper" | "linspace-from-zero"', '"linspace"'],
    ]
    assert "FLOPs" not in shown
    assert set(json.loads(parts("schedules", "linear", "--json"))) == {"name", "type", "about", "fields"}


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 "), (999, "999 "), (1000, "1 k"), (2903824908, "2.904 G"), (1141204582400, "1.141 T")]
)
def test_numbers_are_given_a_decimal_prefix(number, shown):
    from etsdm.cli.display import scaled

    assert scaled(number) == shown


def test_names_and_registries_take_wildcards():
    assert set(json.loads(parts("samplers", "dpm2*", "--json"))["samplers"]) == {"dpm2", "dpm2-ancestral"}
    assert set(json.loads(parts("s*", "e*", "--json"))) == {"schedules", "samplers"}
    result = run("parts", "samplers", "q*")
    assert result.returncode == 2
    assert "no part of samplers has a name like 'q*'" in result.stderr
    assert run("recipe", "list", "ffhq*").stdout.split()[0] == "ffhq_large"
    assert "no recipe has a name like 'x*'" in run("recipe", "list", "x*").stderr
