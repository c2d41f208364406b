"""Units of timestep arguments: exact at edges, unchanged outside the shared times, and the table of classes."""

import ast
from pathlib import Path

import pytest
import torch
from networks import Net, class_named

from etsdm.condition_maps import EDM_PARTITIONS
from etsdm.interop import share_timesteps
from etsdm.interop.time_units import UNITS
from etsdm.interop.timestep_arguments import TIMESTEP_ARGUMENTS
from etsdm.interop.timestep_map import TimestepMap
from etsdm.registry import condition_maps

TIMES = torch.arange(1000)
MAPPED = torch.where(TIMES < 100, TIMES // 20 * 20, TIMES)
# What the pipelines of diffusers compute from a timestep t, in the order of their operations.
ARGUMENT = {
    "timesteps": [lambda t: t, lambda t: t.float(), lambda t: t.double()],
    "unit-interval": [lambda t: t.float() / 1000, lambda t: t.double() / 1000],
    "reversed-timesteps": [lambda t: 1000 - t.float(), lambda t: 1000 - t],
    "reversed-unit-interval": [lambda t: 1 - t.float() / 1000, lambda t: (1000 - t.float()) / 1000, lambda t: 1 - t.double() / 1000],
}
CASES = [(unit, form) for unit, forms in ARGUMENT.items() for form in forms]


@pytest.mark.parametrize(("unit", "form"), CASES, ids=lambda case: case if isinstance(case, str) else "")
@pytest.mark.parametrize("t_tilde", [100, 10])
def test_every_timestep_is_mapped_to_its_sub_interval(unit, form, t_tilde):
    sharing = share_timesteps(Net(), t_tilde=t_tilde, n=5, argument="t", unit=unit)
    width = t_tilde // 5
    mapped = torch.where(t_tilde > TIMES, TIMES // width * width, TIMES)
    argument, expected = form(TIMES), form(mapped)
    found = sharing.timestep_map(argument)
    assert found.dtype == argument.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=torch.finfo(found.dtype).eps if found.is_floating_point() else 0)
    assert torch.equal(found[t_tilde:], argument[t_tilde:])  # bit for bit


def test_arguments_between_edges_have_one_value_per_sub_interval():
    for unit in ARGUMENT:
        timestep_map = TimestepMap(condition_maps.create("e-tsdm"), "t", unit)
        argument = UNITS[unit].argument(torch.linspace(0, 100, 5001)[:-1], 1000.0)
        assert timestep_map(argument).unique().numel() == 5


def test_another_horizon_scales_the_unit_interval():
    timestep_map = share_timesteps(Net(), t_tilde=400, n=4, argument="t", unit="unit-interval", horizon=4000).timestep_map
    assert timestep_map(torch.tensor([0.0, 0.03, 0.06, 0.1])).tolist() == pytest.approx([0, 0.025, 0.05, 0.1])


@pytest.mark.parametrize("unit", ["sigma", "log-sigma"])
@pytest.mark.parametrize("name", ["edm-vp-equivalent", "edm-log"])
def test_noise_levels_are_mapped_in_sigma(unit, name):
    timestep_map = share_timesteps(Net(), condition_map=name, argument="t", unit=unit).timestep_map
    edges = torch.tensor(EDM_PARTITIONS[name])
    mids, left = (edges[1:] + edges[:-1]) / 2, edges[:-1].clamp(min=0.002)
    of_sigma = (lambda s: s) if unit == "sigma" else (lambda s: s.log() / 4)
    torch.testing.assert_close(timestep_map(of_sigma(mids)), of_sigma(left))
    torch.testing.assert_close(timestep_map(of_sigma(edges[1:-1])), of_sigma(left[1:]))
    beyond = of_sigma(torch.tensor([edges[-1].item(), 0.7, 80.0]))
    assert torch.equal(timestep_map(beyond), beyond)


def test_half_precision_is_mapped_in_single():
    # 0.02, 0.04, ... round up in bfloat16, so that an edge is in the sub-interval that it starts.
    timestep_map = share_timesteps(Net(), argument="t", unit="unit-interval").timestep_map
    found = timestep_map((TIMES / 1000).bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found[::20], (MAPPED / 1000).bfloat16()[::20])
    assert found[:100].unique().numel() == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("unit", ARGUMENT)
@pytest.mark.parametrize(("horizon", "t_tilde", "n"), [(1000.0, 100, 5), (1000.0, 100, 3), (4000.0, 400, 10), (1.0, 0.1, 5)])
def test_edges_in_half_precision_are_their_own_conditions(dtype, unit, horizon, t_tilde, n):
    timestep_map = TimestepMap(condition_maps.create("e-tsdm", t_tilde=t_tilde, n=n), "t", unit, horizon)
    times = torch.linspace(0, horizon, 20001, dtype=torch.float64)
    edges = torch.arange(n + 1, dtype=torch.float64) * t_tilde / n
    edges, argument = (UNITS[unit].argument(t, horizon).to(dtype) for t in (edges, times))
    assert torch.equal(timestep_map(edges), edges)
    mapped = timestep_map(argument)
    assert torch.equal(timestep_map(mapped), mapped)
    late = times > 1.05 * t_tilde
    assert torch.equal(mapped[late], argument[late])


@pytest.mark.parametrize(
    ("package", "name", "unit"),
    [
        ("diffusers", "FluxTransformer2DModel", "unit-interval"),
        ("diffusers", "MochiTransformer3DModel", "reversed-timesteps"),
        ("diffusers", "ZImageTransformer2DModel", "reversed-unit-interval"),
        ("guided_diffusion", "SuperResModel", "timesteps"),
        ("ldm", "UNetModel", "timesteps"),
        ("models", "DiT", "timesteps"),
        ("denoising_diffusion_pytorch", "Unet", "timesteps"),
        ("torchtitan", "FluxModel", "unit-interval"),
    ],
)
def test_a_known_class_needs_no_argument(package, name, unit):
    argument = TIMESTEP_ARGUMENTS[f"{package}.{name}"].name
    network = class_named(package, name, argument)()
    subclass = type("Finetuned", (type(network),), {})()
    for net in (network, subclass):
        sharing = share_timesteps(net)
        assert (sharing.timestep_map.argument, sharing.timestep_map.unit) == (argument, unit)
        x, form = torch.zeros(2, 1, 1, 1), UNITS[unit].argument
        near, edge = form(torch.tensor([39.0, 99.0]), 1000.0), form(torch.tensor([20.0, 80.0]), 1000.0)
        torch.testing.assert_close(net(x, near), Net()(x, edge))


def test_a_unit_that_depends_on_the_schedule_is_asked_for():
    for package, name in (("training", "SongUNet"), ("diffusers", "CosmosTransformer3DModel")):
        argument = TIMESTEP_ARGUMENTS[f"{package}.{name}"].name
        network = class_named(package, name, argument)()
        with pytest.raises(ValueError, match=f"unit.*{argument} of a {name}.*log-sigma"):
            share_timesteps(network)
        share_timesteps(network, unit="log-sigma", condition_map="edm-log")


def diffusers_forwards():
    """Arguments of `forward` by class, from the sources of the installed diffusers, without importing its models."""
    import diffusers

    found = {}
    for path in Path(diffusers.__file__).parent.glob("**/*.py"):
        source = path.read_text()
        if "def forward" not in source or path.name.startswith("dummy_"):
            continue
        for node in ast.parse(source).body:
            for method in getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []:
                if isinstance(method, ast.FunctionDef) and method.name == "forward":
                    found[node.name] = [argument.arg for argument in method.args.args]
    return found


def test_the_classes_of_diffusers_have_the_arguments_of_the_table():
    forwards = diffusers_forwards()
    table = {name.partition(".")[2]: entry for name, entry in TIMESTEP_ARGUMENTS.items() if name.startswith("diffusers.")}
    installed = {name: entry for name, entry in table.items() if name in forwards}
    assert len(installed) > 60  # an earlier diffusers may lack some
    assert {name for name, entry in installed.items() if entry.name not in forwards[name]} == set()
    assert {entry.unit for entry in table.values()} <= {*UNITS, None}
