"""Values of arms whose denoisers mean different things by their output are not compared."""

from pathlib import Path

import pytest

import etsdm
from etsdm.report.contents import gather

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SHORT = ("training.images=64", "training.warmup_images=0", "sampling.n=4")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The comparisons of an eps and a v arm, by title."""
    metrics = (
        "evaluation.metrics=[{type: loss-per-t, fine: 1, coarse: 2}, {type: lipschitz, images: 2}, {type: pixel-frechet, chunks: 2},"
        " {type: loss-per-t, name: of-noise, fine: 1, coarse: 2, loss: {type: mse, space: eps}}]"
    )
    arms = "arms={eps: {}, v: {model.target: v}}"
    experiment = etsdm.build(TINY, *SHORT, metrics, "arms=null", arms, out=tmp_path_factory.mktemp("targets"))
    experiment.evaluate()
    return {one.title: one for one in gather(experiment.folder).comparisons}


def test_losses_and_slopes_of_different_targets_are_not_compared(compared):
    for title in ("loss [0, 100) (loss-per-t)", "K [0, 100)"):
        assert compared[title].differences["v"] is None
        assert "different protocols" in compared[title].verdict("v")


def test_losses_in_one_space_and_samples_are(compared):
    for title in ("loss [0, 100) (of-noise)", "pixel Frechet"):
        assert compared[title].differences["v"] is not None
