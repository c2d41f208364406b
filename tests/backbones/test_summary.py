"""What a network costs, against counts by hand and in the literature. A multiplication and the addition after it are two FLOPs."""

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from etsdm.backbones import MLP, ADMUNet, DiT, Execution, SongUNet
from etsdm.backbones.base import Backbone
from etsdm.backbones.kernels import attention
from etsdm.registry import backbones

FLOAT32 = 4


class Layers(Backbone):
    """A backbone around one module, which is given x."""

    in_channels: int = 3
    out_channels: int = 3
    image_size: int = 8
    make: object

    @property
    def divisor(self):
        return 1

    def build(self):
        return Around(self.make())


class Around(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x, time):
        return self.inside(x)


def levels(summary):
    return {level.size: level for level in summary.levels}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 3)])
def test_a_convolution_is_counted_by_hand(batch, stride, groups):
    summary = Layers(make=lambda: nn.Conv2d(3, 6, 5, stride=stride, padding=2, groups=groups)).summary(batch)
    side = 8 // stride
    assert summary.parameters == 6 * (3 // groups) * 25 + 6
    assert summary.weights == FLOAT32 * summary.parameters
    assert summary.flops == 2 * 6 * side**2 * (3 // groups) * 25
    assert summary.activations == batch * 3 * 8**2 * FLOAT32  # its input
    assert list(levels(summary)) == [(side, side)]


@given(batch=st.integers(1, 4), inputs=st.integers(1, 9), outputs=st.integers(1, 9), tokens=st.integers(1, 5))
def test_a_linear_layer_is_counted_by_hand(batch, inputs, outputs, tokens):
    class Tokens(nn.Linear):
        def forward(self, x):
            return super().forward(x[:, 0, :1, :1].expand(-1, tokens, inputs) * 1)

    summary = Layers(make=lambda: Tokens(inputs, outputs)).summary(batch)
    assert summary.flops == 2 * tokens * inputs * outputs
    assert summary.activations == batch * tokens * inputs * FLOAT32
    assert list(levels(summary)) == [(tokens,)]


@pytest.mark.parametrize("kernel", ["auto", "sdpa", "math"])
def test_attention_is_counted_by_hand(kernel):
    class Attending(nn.Module):
        def forward(self, x):
            q = x.flatten(2).transpose(1, 2)[:, None].expand(-1, 2, -1, -1)  # 2 heads of 64 tokens and 3 channels
            return attention(q, q, q, kernel)[:, 0].transpose(1, 2).reshape(x.shape)

    summary = Layers(make=Attending).summary(2)
    # Scores and their sum over values: heads * tokens^2 * channels each.
    assert summary.flops == 2 * 2 * (2 * 64**2 * 3)


def test_activations_are_what_the_backward_pass_needs():
    layers = (nn.Conv2d(3, 5, 1), nn.SiLU(), nn.Dropout(0.0), nn.Identity(), nn.Dropout(0.5), nn.ReLU(), nn.ReLU())
    summary = Layers(make=lambda: nn.Sequential(*layers)).summary()
    # Inputs of the first two; what dropout multiplies with; outputs of the last two.
    assert summary.activations == FLOAT32 * 64 * (3 + 5 + 5 + 2 * 5)


def test_levels_are_the_sizes_of_images_and_hold_what_works_inside_them():
    class Mixed(nn.Module):
        """An image is halved; its tokens are mapped; a vector of it is added."""

        def __init__(self):
            super().__init__()
            self.halve = nn.Conv2d(3, 4, 2, stride=2)
            self.tokens = nn.Linear(4, 4)
            self.vector = nn.Linear(4, 4)

        def forward(self, x):
            h = self.halve(x)
            tokens = self.tokens(h.flatten(2).transpose(1, 2))
            return h + tokens.transpose(1, 2).reshape(h.shape) + self.vector(h.mean((2, 3)))[:, :, None, None]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Linear(1, 2)
            self.first = nn.Conv2d(3, 3, 1)
            self.mixed = Mixed()
            self.unused = nn.Parameter(torch.zeros(7))

        def forward(self, x, time):
            self.embedding(time[:, None])
            return self.mixed(self.first(x))

    class Spec(Layers):
        make: object = None

        def build(self):
            return Network()

    summary = Spec().summary()
    found = levels(summary)
    assert list(found) == [(8, 8), (4, 4), ()]
    assert [level.parameters for level in found.values()] == [12, 52 + 20 + 20, 4 + 7]
    assert [level.flops for level in found.values()] == [2 * 64 * 9, 2 * (16 * 4 * 12 + 16 * 16 + 16), 2 * 2]
    # Each layer keeps its input: two images, tokens and their mean, a time.
    assert [level.activations for level in found.values()] == [FLOAT32 * 192, FLOAT32 * (192 + 64 + 4), FLOAT32]
    assert [level.blocks for level in found.values()] == [0, 1, 0]
    assert summary.parameters == 12 + 92 + 11


def test_a_shared_layer_has_its_parameters_once_and_its_operations_each_time():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.layer(self.layer(x))

    summary = Layers(make=Twice).summary()
    assert (summary.parameters, summary.flops) == (12, 2 * 2 * 64 * 9)


# Peebles and Xie 2023, table 4 (DiT) and tables 2 and 3 (ADM), in Gflops that count a multiplication and its addition as one. Their
# DiT figures were rounded, and counted a little apart from matrix products.
@pytest.mark.parametrize(
    ("name", "changes", "giga"),
    [
        ("dit-s-2", {}, 6.06),
        ("dit-b-4", {}, 5.56),
        ("dit-l-2", {}, 80.71),
        ("dit-xl-2", {}, 118.64),
        ("dit-xl-2", {"image_size": 64}, 524.6),
        ("adm-imagenet-256", {}, 1120),
        ("adm-imagenet-512", {}, 1983),
    ],
)
def test_published_counts_are_met(name, changes, giga):
    assert backbones.create(name, **changes).summary().flops / 2e9 == pytest.approx(giga, rel=2e-3)


def test_a_transformer_is_counted_by_hand():
    part = DiT(image_size=8, in_channels=3, out_channels=3, patch_size=2, hidden_size=24, depth=5, num_heads=3, num_classes=10)
    summary = part.summary(batch=2)
    # Macs. A block of T = 16 tokens: 12 T D^2 of its layers, 2 T^2 D of attention, 6 D^2 of the modulation.
    blocks = 5 * (12 * 16 * 24**2 + 2 * 16**2 * 24 + 6 * 24**2)
    ends = 16 * 24 * 12 + 256 * 24 + 24**2 + 2 * 24**2 + 16 * 24 * 12
    assert summary.flops == 2 * (blocks + ends)
    assert summary.weights == FLOAT32 * (summary.parameters + 16 * 24)  # with the embedding of places, a buffer
    assert [(level.size, level.blocks) for level in summary.levels] == [((4, 4), 0), ((16,), 7), ((), 2)]


def test_a_network_of_vectors_has_one_level():
    summary = MLP(image_size=4, in_channels=1, out_channels=1, width=8, depth=2, time_embed_dim=4, num_classes=3).summary()
    (level,) = summary.levels
    assert (level.size, level.parameters, level.flops) == ((), summary.parameters, summary.flops)
    # Macs: the embedding, in, two blocks, out.
    assert summary.flops == 2 * (2 * 16 + 16 * 8 + 2 * (4 * 16 + 2 * 64) + 8 * 16)


@pytest.mark.parametrize("name", ["ddpm-cifar10", "dit-s-8"])
def test_levels_add_up_and_a_batch_changes_activations_alone(name):
    one, two, three, four = (backbones.create(name).summary(batch) for batch in range(1, 5))
    for field in ("parameters", "flops", "activations"):
        assert sum(getattr(level, field) for level in one.levels) == getattr(one, field)
    assert (four.parameters, four.weights, four.flops) == (one.parameters, one.weights, one.flops)
    # An image needs the same whatever the batch; kernels that are made of weights, and constants, are needed once.
    for field in ("activations", "checkpointed"):
        numbers = [getattr(summary, field) for summary in (two, three, four)]
        assert numbers[2] - numbers[1] == numbers[1] - numbers[0] > 0
        assert 0.8 * numbers[0] < 2 * (numbers[1] - numbers[0]) <= numbers[0]
    with torch.device("meta"):
        built = backbones.create(name).build()
    assert one.parameters == sum(parameter.numel() for parameter in built.parameters())


SIZE = {"image_size": 32, "in_channels": 3, "out_channels": 3}
UNET = {"model_channels": 32, "norm_groups": 8, "num_res_blocks": 1, "channel_mult": (1, 2), "attention_resolutions": (2,)}
MEASURED = {
    "adm-unet": ADMUNet(**SIZE, **UNET, num_head_channels=16, dropout=0.1),
    "song-unet": SongUNet(**SIZE, model_channels=32, num_blocks=1, channel_mult=(1, 2), attn_resolutions=(16,)),
    "dit": DiT(**SIZE, patch_size=2, hidden_size=64, depth=4, num_heads=4, dropout=0.1),
}


def allocated(call):
    """What a call gives, the bytes that are still given out after it, and the most that were at a time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        out = call()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return out, sum(sizes), max(itertools.accumulate(sizes))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("spec", MEASURED.values(), ids=MEASURED)
def test_a_training_step_on_the_cpu_allocates_what_was_counted(spec, checkpointing):
    batch = 8
    network = Execution(gradient_checkpointing=checkpointing).prepare(spec.build().train())
    x, t = torch.zeros(batch, 3, 32, 32), torch.zeros(batch)
    network(x, t).mean().backward()  # from now on there are gradients of weights
    out, kept, _ = allocated(lambda: network(x, t))
    loss = out.mean()
    _, _, more = allocated(loss.backward)

    summary = spec.summary(batch)
    # Its input is kept and was there before; its output is there and not kept. Checkpoints keep the generator's state, 5 kB each.
    expected = (summary.checkpointed if checkpointing else summary.activations) + FLOAT32 * (out.numel() - x.numel())
    assert kept == pytest.approx(expected, abs=0.01 * expected)
    # The backward pass has gradients besides: of what is inside a block, and of the weights that it is at.
    most = summary.checkpointed + summary.peak_recompute if checkpointing else summary.activations
    assert most < kept + more < 1.3 * most
    assert summary.checkpointed + summary.peak_recompute < summary.activations / 2


def test_without_blocks_checkpointing_keeps_everything():
    summary = Layers(make=lambda: nn.Sequential(nn.Conv2d(3, 5, 1), nn.SiLU())).summary()
    assert (summary.checkpointed, summary.peak_recompute) == (summary.activations, 0)


def test_attention_by_the_formula_keeps_its_weights_and_a_fused_kernel_does_not():
    def kept(kernel):
        class Attending(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(()))

            def forward(self, x):
                q = self.scale * x.flatten(2).transpose(1, 2)[:, None]
                return attention(q, q, q, kernel)[:, 0].transpose(1, 2).reshape(x.shape)

        return Layers(make=Attending).summary(2).activations

    weights = FLOAT32 * 2 * 64 * 64  # of two images of one head
    assert kept("sdpa") < weights < kept("math")


def test_the_levels_of_a_unet_are_its_resolutions():
    summary = backbones.create("adm-normal").summary()
    # Four stages at each size and one more on the way out; the first convolution, the middle and the output; a change of size
    # belongs to the size that it gives.
    assert [level.size for level in summary.levels] == [(2**k, 2**k) for k in (8, 7, 6, 5, 4, 3)] + [()]
    assert sum(level.blocks for level in summary.levels) == 1 + 6 * 2 + 5 + 1 + 6 * 3 + 1 + 1
    assert summary.weights == 4 * 138286467


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match=r"^batch: 0 .*; give 1 or more$"):
        backbones.create("ddpm-cifar10").summary(0)


def test_nothing_is_allocated():
    program = """
import resource
from etsdm.registry import backbones
backbones.create("ddpm-cifar10").summary()  # what the counting itself loads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert backbones.create("adm-large").summary(16).weights == 4 * 725956227
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    kibibytes = int(found) if sys.platform == "linux" else int(found) / 1024
    assert kibibytes < 64 * 1024  # of 2.9 GB of weights


def test_a_summary_can_be_written_and_read():
    summary = backbones.create("ddpm-cifar10").summary()
    assert type(summary).model_validate(summary.model_dump(mode="json")) == summary
