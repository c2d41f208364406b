import re
from math import log

import pytest
import torch
from pydantic import ValidationError

from etsdm.condition_maps import Identity
from etsdm.condition_maps.time_inputs import Auto, LogSigma, Scaled, Timesteps
from etsdm.registry import condition_maps, format_errors, schedules

CONDITIONS = torch.tensor([0.002, 0.5, 1.0, 80.0], dtype=torch.float64)


def test_timesteps_are_handed_on_and_shares_of_the_horizon_multiplied():
    assert torch.equal(Timesteps()(CONDITIONS), CONDITIONS)
    assert torch.equal(Scaled(factor=999)(CONDITIONS), 999 * CONDITIONS)


def test_the_logarithm_of_sigma_is_that_of_edm_and_of_ve():
    # Karras et al. 2022, table 1: c_noise = ln(sigma)/4, and ln(sigma/2) for VE.
    assert LogSigma()(CONDITIONS).tolist() == pytest.approx([log(sigma) / 4 for sigma in CONDITIONS.tolist()], rel=1e-14)
    ve = LogSigma(factor=1, unit=2)(CONDITIONS)
    assert ve.tolist() == pytest.approx([log(sigma / 2) for sigma in CONDITIONS.tolist()], rel=1e-14)


@pytest.mark.parametrize("fields", [{"factor": 0}, {"unit": -1.0}])
def test_a_factor_and_a_unit_are_above_zero(fields):
    with pytest.raises(ValidationError) as error:
        LogSigma(**fields)
    (problem,) = format_errors(error.value)
    assert problem.message.endswith("give a value above 0")


def resolved(schedule, condition_map="identity"):
    return Auto().resolved(condition_maps.parse(condition_map), schedules.parse(schedule))


@pytest.mark.parametrize("name", [name for name in schedules.names() if name not in ("zero-terminal-snr", "zero-terminal-snr-continuous")])
def test_auto_gives_every_schedule_values_that_an_embedding_tells_apart(name):
    made = schedules.create(name)
    chosen = resolved(name)
    times = torch.linspace(made.t_min, made.domain[1], 101, dtype=torch.float64)
    values = chosen(times)
    assert values.isfinite().all()
    if made.time_is_noise_level:
        assert chosen == LogSigma()  # c_noise of Karras et al. 2022
    elif made.is_discrete:
        assert chosen == Timesteps()
    else:
        assert chosen == Scaled(factor=1000)
    assert chosen.check(Identity(), made) == []


@pytest.mark.parametrize(
    ("schedule", "condition_map", "expected"),
    [
        ("linear", "e-tsdm", Timesteps()),
        ("linear-continuous", {"type": "e-tsdm", "t_tilde": 0.1}, Scaled(factor=1000)),
        ("linear-continuous", "inverse", Scaled(factor=1000)),  # normalised to [0, horizon]
        ("linear-continuous", {"type": "log-snr", "scale": "none"}, Timesteps()),
        ("linear", {"type": "sigma", "scale": "none"}, LogSigma()),
        ("edm", "edm-log", LogSigma()),
        ("edm", "log-snr", Scaled(factor=12.5)),  # normalised to [0, 80]
        ("edm", {"type": "constant", "value": 0.0}, Timesteps()),
        ("linear", {"type": "compose", "maps": [{"type": "sigma", "scale": "none"}, "identity"]}, LogSigma()),
        ("flow", {"type": "compose", "maps": ["identity", {"type": "e-tsdm", "t_tilde": 0.1}]}, Scaled(factor=1000)),
    ],
)
def test_auto_follows_the_unit_of_the_conditions(schedule, condition_map, expected):
    assert resolved(schedule, condition_map) == expected


def test_auto_itself_converts_nothing():
    with pytest.raises(ValueError, match="auto"):
        Auto()(CONDITIONS)


@pytest.mark.parametrize(
    ("schedule", "condition_map", "time_input", "message"),
    [
        ("flow", "identity", "timesteps", r"time_input: 'timesteps' passes t in \[0, 1\].*give auto or scaled"),
        ("edm", "identity", "timesteps", r"time_input: 'timesteps' passes noise levels.*give auto or log-sigma"),
        ("linear", {"type": "sigma", "scale": "none"}, "timesteps", r"time_input: 'timesteps' passes noise levels"),
        ("linear", "identity", "scaled", r"time_input\.factor: 1000 makes values up to 999000.*smaller one"),
        ("edm", "identity", "scaled", r"time_input\.factor: 1000 makes values up to 80000"),
        ("linear", "identity", "log-sigma", r"time_input: 'log-sigma' takes the logarithm of a noise level.*give auto"),
        ("edm", {"type": "e-tsdm", "t_tilde": 0.3}, "auto", r"time_input: 'log-sigma' has no finite value for the condition 0.*floor"),
        ("linear", {"type": "log-snr", "scale": "none"}, "log-sigma", r"time_input: 'log-sigma' has no finite value for the condition -"),
    ],
)
def test_a_time_input_that_cannot_be_meant_is_refused_with_the_mend(tiny_spec, schedule, condition_map, time_input, message):
    with pytest.raises(ValidationError) as error:
        tiny_spec(schedule=schedule, condition_map=condition_map, time_input=time_input)
    (problem,) = format_errors(error.value)
    assert re.search(message, f"{problem.field}: {problem.message}")


def test_the_specification_holds_the_chosen_time_input(tiny_spec):
    for schedule, chosen in (("linear", Timesteps()), ("flow", Scaled(factor=1000)), ("edm", LogSigma())):
        for given in ({}, {"time_input": "auto"}):
            spec = tiny_spec(schedule=schedule, target="v", **given)
            assert spec.time_input == chosen
            assert type(spec).model_validate(spec.model_dump(mode="json")) == spec


def test_a_network_on_unit_time_sees_the_first_tenth(tiny_denoiser):
    # On [0, 1] as it is, an embedding made for 0..1000 changes in the first tenth by a hundredth of what it does by default.
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def change(time_input):
        denoiser = tiny_denoiser(schedule="flow", target="v", time_input=time_input)
        return (denoiser.output(x, 0.1) - denoiser.output(x, 0.001)).norm().item()

    assert change("auto") > 3 * change({"type": "scaled", "factor": 1})
