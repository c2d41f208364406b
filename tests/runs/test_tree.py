"""A run as a tree: what is done again after a change, and what is not."""

import json
import shutil
from pathlib import Path

import pytest

import etsdm
from etsdm.checkpoints import checkpoint_folder
from etsdm.errors import IntegrityError, RecipeError
from etsdm.metrics import Recognition
from etsdm.report import write_report

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SMALL = ("training.images=64", "training.warmup_images=0", "evaluation.metrics=[{type: pixel-frechet, chunks: 2}]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    etsdm.build(TINY, *SMALL, out=out).run()
    return out


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def done(out, *overrides):
    """What is done in the baseline's run, with changes."""
    run = etsdm.build(TINY, *SMALL, *overrides, out=out).arm("baseline").runs[0]
    return list(dict.fromkeys(progress.label for progress in run.run() if not progress.reused))


def value_files(out):
    return {
        file.relative_to(out / "tiny/baseline/values").as_posix(): file.read_bytes()
        for file in (out / "tiny/baseline").rglob("values/**/*.json")
    }


@pytest.mark.parametrize("place", ["before", "after"])
def test_another_metric_is_measured_alone(out, monkeypatch, place):
    before, frechet = value_files(out), "{type: pixel-frechet, chunks: 2}"
    metrics = ["recognition", frechet] if place == "before" else [frechet, "recognition"]
    measured = []
    monkeypatch.setattr(
        Recognition, "compute", lambda metric, inputs, compute=Recognition.compute: measured.append(1) or compute(metric, inputs)
    )
    monkeypatch.setattr(etsdm.metrics.PixelFrechet, "compute", lambda metric, inputs: pytest.fail("measured again"))
    assert done(out, f"evaluation.metrics=[{', '.join(metrics)}]") == ["evaluate"]
    assert measured == [1]
    after = value_files(out)
    assert after.keys() - before.keys() == {"default/recognition.json"}
    assert {name: after[name] for name in before} == before


def test_a_metric_may_stand_several_times_with_other_fields_or_names(out):
    metrics = "evaluation.metrics=[{type: pixel-frechet, chunks: 2}, pixel-frechet, {type: pixel-frechet, chunks: 2, name: again}]"
    assert done(out, metrics) == ["evaluate"]
    run = etsdm.build(TINY, *SMALL, metrics, out=out).arm("baseline").runs[0]
    two, four, again = run.results
    assert (four, again) == ("pixel-frechet", "again")
    assert two.startswith("pixel-frechet-")
    counts = [len(result.values["pixel Frechet"].per_unit) for result in run.results.values()]
    assert counts == [2, 4, 2]
    assert run.results[two] == run.results[again]
    # The one that was there kept its file.
    assert run.folder.manifest().values[0].file == f"values/default/{two}.json"


def test_another_sampling_by_name_is_drawn_and_measured_alone(out):
    several = ("sampling.a={}", "sampling.b={sampler: {type: ddim, steps: 2}}")
    assert done(out, *several) == ["sample a", "sample b", "evaluate"]
    assert done(out, *several, "sampling.c={n: 8}") == ["sample c", "evaluate"]
    # What one of them says changes that one alone; what all share changes all.
    assert done(out, *several, "sampling.c={n: 8}", "sampling.b.seed=1") == ["sample b", "evaluate"]
    assert done(out, *several, "sampling.c={n: 8}", "sampling.seed=2") == ["sample a", "sample b", "sample c", "evaluate"]
    run = etsdm.build(TINY, *SMALL, *several, "sampling.c={n: 8}", "sampling.seed=2", out=out).arm("baseline").runs[0]
    assert list(run.results) == ["a/pixel-frechet", "b/pixel-frechet", "c/pixel-frechet"]
    assert len(run.samples_of("c")) == 8
    with pytest.raises(RecipeError, match=r"^sampling: .* 'd'; it has: a, b, c$"):
        run.samples_of("d")


def test_a_metric_of_the_denoiser_is_measured_once_for_all_samplings(out):
    overrides = ("sampling.a={}", "sampling.b={n: 4}", "evaluation.metrics=[{type: lipschitz, images: 2, stop: 4}]")
    done(out, *overrides)
    assert [name for name in value_files(out) if name.startswith("lipschitz")] == [name for name in value_files(out) if "/" not in name]
    assert done(out, *overrides, "sampling.b.n=5") == ["sample b"]


def test_an_arm_whose_training_exists_in_another_arm_never_trains(out):
    arms = "arms.slow={model.condition_map: identity, sampling.sampler.steps: 5}"
    run = etsdm.build(TINY, *SMALL, arms, out=out).arm("slow").runs[0]
    assert run.is_done("train")
    assert "train" not in [progress.label for progress in run.run() if not progress.reused]
    assert len(run.experiment.trainings()) == 2
    assert checkpoint_folder(out / "tiny/slow") == checkpoint_folder(out / "tiny/baseline")


def test_an_arm_reaches_into_a_named_sampling(tmp_path):
    arms = etsdm.build(TINY, "sampling.a={}", "sampling.b={n: 4}", "arms.e-tsdm.sampling.b.sampler.type=dpm-solver-2").arms
    assert [arm.sampling_of("b").sampler.type_name for arm in arms.values()] == ["ddim", "dpm-solver-singlestep"]
    assert arms["baseline"].samplings["a"] == arms["e-tsdm"].samplings["a"]
    # What a section leaves out of the common sampler it keeps.
    recipe = etsdm.build(TINY, "sampling.sampler.eta=0.5", "sampling.a.sampler.steps=2").arms["e-tsdm"]
    assert (recipe.sampling_of("a").sampler.steps, recipe.sampling_of("a").sampler.eta) == (2, 0.5)


def test_an_experiment_samples_by_the_first_section_or_by_name(tmp_path):
    experiment = etsdm.build(TINY, "sampling.a={}", "sampling.b={sampler: {type: ddim, steps: 1}}", out=tmp_path)
    first, second = (etsdm.sample(experiment.denoiser, 2, steps=steps) for steps in (3, 1))
    assert (experiment.sample(2) == first).all()
    assert (experiment.sample(2, sampling="b") == second).all()
    with pytest.raises(RecipeError, match="unknown name 'c'; it has: a, b"):
        experiment.sample(2, sampling="c")


def test_folders_of_the_layout_before_are_refused_whatever_is_asked_for(out):
    record = out / "tiny/experiment.json"
    facts = json.loads(record.read_text())
    del facts["format"]
    record.write_text(json.dumps(facts))
    experiment = etsdm.build(TINY, *SMALL, out=out)
    for refused in (experiment.run, experiment.sample, lambda: experiment.runs, lambda: write_report(experiment.folder)):
        with pytest.raises(IntegrityError, match=r"experiment\.json: format None is not known, .*; run again into another folder"):
            refused()


def test_an_arm_may_not_be_called_like_the_folder_of_trainings():
    with pytest.raises(RecipeError, match="'trainings' is the folder of the trainings; give the arm another name"):
        etsdm.build(TINY, "arms.trainings={}")


def test_experiments_and_runs_name_themselves(out):
    experiment = etsdm.build(TINY, *SMALL, out=out)
    assert repr(experiment) == f"Experiment('tiny', arms baseline, e-tsdm, in '{out}/tiny')"
    assert repr(experiment.runs[0]) == f"Run('baseline' in '{out}/tiny/baseline')"
