"""Table 3 as a recipe: one training of each arm, six samplers by name; a seventh trains nothing."""

from pathlib import Path

import pytest

import etsdm
from etsdm.report.contents import gather
from etsdm.training import Trainer

RECIPE = Path(__file__).parents[2] / "recipes" / "digits_samplers.yaml"
SMALL = (
    "model.backbone={model_channels: 8, norm_groups: 4}",
    "training={images: 64, batch_size: 32, warmup_images: 0, log_every: 64, checkpoint_every: 64}",
    "sampling={n: 4, batch_size: 4}",
    "evaluation.metrics=[recognition]",
)


@pytest.fixture
def trained(monkeypatch):
    """The trainings of a test, counted at the trainer."""
    found, run = [], Trainer.run

    def counted(trainer, *args, **facts):
        found.append(facts["arm"])
        return run(trainer, *args, **facts)

    monkeypatch.setattr(Trainer, "run", counted)
    return found


def test_the_samplers_are_those_of_table_3():
    # Rows of the paper's Table 3: DPM-Solver-3 and -2 with 20 and 50 network calls, DDIM with 50 and 200.
    for recipe in etsdm.build(RECIPE).arms.values():
        samplers = {name: one.sampler for name, one in recipe.samplings.items()}
        calls = [(sampler.type_name, getattr(sampler, "order", None), sampler.plan(recipe.model).nfe) for sampler in samplers.values()]
        solver = "dpm-solver-singlestep"
        assert calls == [(solver, 3, 20), (solver, 3, 50), (solver, 2, 20), (solver, 2, 50), ("ddim", None, 50), ("ddim", None, 200)]
        assert {(one.n, one.seed) for one in recipe.samplings.values()} == {(359, 0)}
    assert list(etsdm.build(RECIPE).arms) == ["baseline", "e-tsdm"]


def test_one_training_is_sampled_six_times_and_a_seventh_sampler_trains_nothing(tmp_path, trained):
    experiment = etsdm.build(RECIPE, *SMALL, out=tmp_path)
    experiment.run()
    assert trained == ["baseline", "e-tsdm"]
    names = list(experiment.recipe.samplings)
    assert len(names) == 6
    for run in experiment.runs:
        assert list(run.results) == [f"{name}/recognition" for name in names]
        drawn = [run.samples_of(name).load().pixels for name in names]
        assert not any((drawn[0] == other).all() for other in drawn[1:])
    rows = [row.title for row in gather(experiment.folder).comparisons]
    assert rows == [f"recognition (recognition, {name})" for name in names]

    more = etsdm.build(RECIPE, *SMALL, "sampling.unipc-nfe-10={sampler: {type: unipc, steps: 10}}", out=tmp_path)
    done = [(event.label, event.progress.label) for event in more.execute() if event.progress and not event.progress.reused]
    assert trained == ["baseline", "e-tsdm"]
    assert set(done) == {(arm, stage) for arm in ("baseline", "e-tsdm") for stage in ("sample unipc-nfe-10", "evaluate")}
    assert len(experiment.folder.trainings()) == 2
    assert [run.results.keys() - {"unipc-nfe-10/recognition"} for run in more.runs] == [set(run.results) for run in experiment.runs]
