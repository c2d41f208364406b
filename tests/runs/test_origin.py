"""The recipe of the run that a checkpoint lies in."""

from pathlib import Path

import pytest

from etsdm.checkpoints.format import write_denoiser
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.runs.folder import TrainingFolder
from etsdm.runs.origin import recipe_of_checkpoint
from etsdm.storage.files import atomic_folder

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


def test_the_recipe_is_that_of_the_run(tiny_spec, tmp_path):
    denoiser, checkpoint = tiny_spec().build(), tmp_path / "run/checkpoints/000000000320"
    with atomic_folder(checkpoint) as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict())
    assert recipe_of_checkpoint(checkpoint) is None
    training = TrainingFolder(tmp_path / "run")
    training.start("digest", f"extends: {TINY}\nsampling: {{seed: 7}}\n", {}, depends_on={})
    for path in (tmp_path / "run", str(checkpoint)):
        assert recipe_of_checkpoint(path).sampling.seed == 7
    training.recipe_file.write_text(training.recipe_file.read_text().replace("7", "8"))
    with pytest.raises(IntegrityError, match=r"recipe\.yaml: was changed or damaged: .* remove .*stage\.json and run the recipe again"):
        recipe_of_checkpoint(checkpoint)
    training.recipe_file.unlink()
    with pytest.raises(IntegrityError, match=r"recipe\.yaml: is missing"):
        recipe_of_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match=r"nothing: is no folder"):
        recipe_of_checkpoint(tmp_path / "nothing")
