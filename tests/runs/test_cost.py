"""What a recipe costs, against counts by hand."""

import gc
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from etsdm.recipe import Recipe, load_arms
from etsdm.runs.cost import FLOPS_PER_SECOND, cost_of

RECIPES = Path(__file__).parents[2] / "recipes"

# A network of fully connected layers on the 64 pixels of a digit: 16 channels, 4 of the embedding of time, one block.
# Multiply-adds: the embedding, in, the block's modulation and two layers, out.
MACS = 2 * 4**2 + 64 * 16 + (4 * 32 + 2 * 16**2) + 16 * 64
FLOPS = 2 * MACS
# Weights and biases of the same, and the last normalisation's.
PARAMETERS = 2 * (4**2 + 4) + (64 * 16 + 16) + (4 * 32 + 32) + 2 * (16**2 + 16) + 2 * 16 + (16 * 64 + 64)
# Numbers that the backward pass needs of an image, inputs of layers all but these: mean and inverse deviation of a normalisation.
# Embedding and the function after it; in; the block's own (normalised, scale, and two layers with one between); out.
OUTSIDE, INPUTS, INSIDE = 4 * 4 + 64 + (3 * 16 + 2), 16 + 4, 2 + 2 * 16 + 3 * 16
KEPT = OUTSIDE + INPUTS + INSIDE

# An autoencoder of one level with 4 channels, whose latents are of one channel and as large as the digits: at each of 64 pixels
# 3x3 convolutions in and out, residual blocks of two 3x3 convolutions, a 1x1 convolution, and the distances to 3 codes.
FIRST_STAGE = {
    "type": "vq",
    "resolution": 8,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 4,
    "ch_mult": [1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "attn_type": "none",
    "z_channels": 1,
    "n_embed": 3,
    "norm_groups": 4,
}
BLOCK = 2 * 9 * 4 * 4
ENCODER = 2 * 64 * (9 * 4 + BLOCK + 2 * BLOCK + 9 * 4 + 1)
DECODER = 2 * 64 * (3 + 1 + 9 * 4 + 2 * BLOCK + 2 * BLOCK + 9 * 4)
BLOCK_PARAMETERS = BLOCK + 2 * 4 + 2 * 2 * 4  # convolutions with biases, normalisations
CODER_ENDS = (9 * 4 + 4) + 2 * 4 + (9 * 4 + 1)
FIRST_STAGE_PARAMETERS = (3 + 4) * BLOCK_PARAMETERS + 2 * CODER_ENDS + 2 * 2 + 3


def recipe(*, first_stage=None, gradient_checkpointing=False, **training):
    network = {"type": "mlp", "image_size": 8, "in_channels": 1, "out_channels": 1, "width": 16, "depth": 1, "time_embed_dim": 4}
    return Recipe.model_validate(
        {
            "data": "digits",
            "model": {"schedule": "linear", "backbone": network, "first_stage": first_stage},
            "training": {"images": 100, "batch_size": 5, **training},
            "sampling": {"sampler": {"type": "ddim", "steps": 7}, "n": 3},
            "compute": {"gradient_checkpointing": gradient_checkpointing},
        }
    )


def test_a_small_recipe_is_counted_by_hand():
    cost = cost_of(recipe())
    assert cost.model_dump() == {
        "parameters": PARAMETERS,
        "first_stage_parameters": 0,
        "flops": FLOPS,
        "training_images": 100,
        "training_flops": 100 * 3 * FLOPS,
        "samplings": {"default": {"nfe": 7, "images": 3, "flops": 3 * 7 * FLOPS}},
        "training_state": 5 * 4 * PARAMETERS,
        "gradient_checkpointing": False,
        "activations": 5 * 4 * KEPT,
        "checkpoint": 4 * 4 * PARAMETERS,
    }


@pytest.mark.parametrize(
    ("loss", "gradient_checkpointing", "forwards"),
    [
        ("mse", False, 3),
        ("mse", True, 4),
        ({"type": "lipschitz-regularized", "weight": 0.1}, False, 6),
        ({"type": "lipschitz-regularized", "weight": 0.1}, True, 8),
    ],
)
def test_a_training_step_costs_forward_backward_and_what_is_computed_twice(loss, gradient_checkpointing, forwards):
    cost = cost_of(recipe(loss=loss, gradient_checkpointing=gradient_checkpointing))
    assert cost.training_flops == 100 * forwards * FLOPS
    assert cost.sampling_flops == 3 * 7 * FLOPS
    assert cost.flops == FLOPS


@pytest.mark.parametrize(("loss", "evaluations"), [("mse", 1), ({"type": "lipschitz-regularized", "weight": 0.1}, 2)])
def test_activations_are_kept_of_all_evaluations_and_with_checkpointing_the_insides_of_one_block(loss, evaluations):
    plain, checkpointed = (cost_of(recipe(loss=loss, gradient_checkpointing=flag)) for flag in (False, True))
    assert plain.activations == 5 * 4 * evaluations * KEPT
    assert checkpointed.activations == 5 * 4 * (evaluations * (OUTSIDE + INPUTS) + INSIDE)
    assert (plain.gradient_checkpointing, checkpointed.gradient_checkpointing) == (False, True)


def test_a_learned_variance_is_learned_in_one_evaluation():
    plain = cost_of(load_arms(RECIPES / "digits.yaml").recipes["baseline"])
    learned = cost_of(load_arms(RECIPES / "digits.yaml", "model.backbone.out_channels=2", "training.loss=hybrid").recipes["baseline"])
    # One more channel of the last 3x3 convolution, from 16 channels, at 64 pixels.
    assert learned.flops - plain.flops == 2 * 64 * 9 * 16
    assert learned.training_flops == 76800 * 3 * learned.flops


def test_a_first_stage_encodes_in_training_and_decodes_in_sampling():
    cost = cost_of(recipe(first_stage=FIRST_STAGE))
    assert cost.first_stage_parameters == FIRST_STAGE_PARAMETERS
    assert (cost.parameters, cost.flops) == (PARAMETERS, FLOPS)
    assert cost.training_flops == 100 * (3 * FLOPS + ENCODER)
    assert cost.sampling_flops == 3 * (7 * FLOPS + DECODER)
    # It has neither gradients, moments nor average.
    assert cost.training_state == 4 * (5 * PARAMETERS + FIRST_STAGE_PARAMETERS)
    assert cost.checkpoint == 4 * (4 * PARAMETERS + FIRST_STAGE_PARAMETERS)
    twice = cost_of(recipe(first_stage=FIRST_STAGE, loss={"type": "lipschitz-regularized", "weight": 1}, gradient_checkpointing=True))
    assert twice.training_flops == 100 * (8 * FLOPS + ENCODER)


@pytest.mark.parametrize("first_stage", [None, FIRST_STAGE])
def test_a_checkpoint_on_disk_has_the_size_that_was_counted(tmp_path, first_stage):
    import etsdm
    from etsdm.checkpoints import checkpoint_folder
    from etsdm.storage.tensors import write_tensors

    small = recipe(first_stage=first_stage)
    weights = tmp_path / "first-stage.safetensors"
    if first_stage:
        write_tensors(weights, small.model.build().first_stage.state_dict())
    whole = small.model_copy(update={"training": {"images": 10, "batch_size": 5, "first_stage_weights": str(weights)}})
    experiment = etsdm.build(whole, out=tmp_path)
    experiment.train()
    files = checkpoint_folder(tmp_path / "recipe/default").glob("*.safetensors")
    # Names of tensors come on top, and a step number a tensor of Adam's.
    found, names = sum(file.stat().st_size for file in files), 40_000
    assert 0 < found - cost_of(whole).checkpoint < names


def test_days_are_those_of_one_device():
    cost = cost_of(recipe())
    assert cost.training_days * 86400 * FLOPS_PER_SECOND == pytest.approx(100 * 3 * FLOPS)
    assert cost.sampling_days * 86400 * FLOPS_PER_SECOND == pytest.approx(3 * 7 * FLOPS)


@pytest.mark.parametrize(
    ("name", "parameters", "images"),
    [
        # Parameters: counted with guided-diffusion's UNet of the same options; 131.9 and 692.3 in units of 2^20 (paper Table A1).
        ("ffhq_normal", 138_286_467, 48_000_000),
        ("ffhq_large", 725_956_227, 32_000_000),
    ],
)
def test_the_papers_networks_have_their_size_and_nothing_is_allocated(name, parameters, images):
    class OnlyShapes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta"]
            self.largest = max(self.largest, *sizes, 0)
            return out

    one = load_arms(RECIPES / f"{name}.yaml").recipes["e-tsdm"]
    with OnlyShapes() as made:
        cost = cost_of(one)
    assert made.largest <= 1000  # tables of the schedule
    assert cost.parameters == parameters
    assert cost.training_state == 20 * parameters
    assert cost.training_images == images
    assert cost.training_flops == images * 4 * cost.flops
    assert (cost.samplings["default"].nfe, cost.samplings["default"].images) == (1000, 10_000)
    assert cost.sampling_flops == 10_000 * 1000 * cost.flops


@pytest.mark.parametrize("first_stage", [None, FIRST_STAGE])
def test_what_is_counted_leaves_no_tensor_in_memory(first_stage):
    def tensors():
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    one = recipe(first_stage=first_stage)
    cost_of(one)
    before = tensors()
    for _ in range(3):
        cost_of(one)
    assert tensors() == before
