"""The recipe of the run that a checkpoint lies in."""

from pathlib import Path

import pytest

from etsdm.checkpoints.format import write_denoiser
from etsdm.errors import CheckpointError
from etsdm.runs.origin import recipe_of_checkpoint
from etsdm.storage.files import atomic_folder

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


def test_the_recipe_is_that_of_the_run(tiny_spec, tmp_path):
    denoiser, checkpoint = tiny_spec().build(), tmp_path / "run/checkpoints/000000000320"
    with atomic_folder(checkpoint) as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict())
    assert recipe_of_checkpoint(checkpoint) is None
    (tmp_path / "run/recipe.yaml").write_text(f"extends: {TINY}\nsampling: {{seed: 7}}\n")
    for path in (tmp_path / "run", str(checkpoint)):
        assert recipe_of_checkpoint(path).sampling.seed == 7
    with pytest.raises(CheckpointError, match=r"nothing: is no folder"):
        recipe_of_checkpoint(tmp_path / "nothing")
