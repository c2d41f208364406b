"""The trainer on the digits, with networks that take milliseconds a step."""

import json

import pytest
import torch

from etsdm.checkpoints.format import read_checkpoint
from etsdm.data import Digits
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.randomness import generator
from etsdm.training import Optimizer, Trainer, Training

TRAINING = {"images": 320, "batch_size": 32, "learning_rate": 1e-3, "ema": 0.9, "log_every": 64, "checkpoint_every": 128}


class SGD(Optimizer):
    """Gradient descent, whose step shows the gradient that it got."""

    def build(self, parameters, learning_rate):
        return torch.optim.SGD(parameters, lr=learning_rate)


@pytest.fixture(scope="module")
def digits():
    return Digits().open("train")


@pytest.fixture
def make(tiny_spec, digits):
    def make(spec=None, seed=0, **changes):
        return Trainer(spec or tiny_spec(), Training.model_validate({**TRAINING, **changes}), digits, seed=seed)

    return make


def run(trainer, folder, until=None):
    """Trains, as far as `until` images if given; returns the records without the speed."""
    records = []
    for progress in trainer.run(lambda seen: folder / f"{seen:06d}"):
        if progress.record:
            records.append(
                {key: value for key, value in progress.record.items() if key not in ("images_per_second", "seconds", "data_seconds")}
            )
        if until and progress.images_seen >= until:
            break
    return records


def weights(trainer):
    return {**trainer.denoiser.backbone.state_dict(), **{f"ema.{k}": v for k, v in trainer.average.module.state_dict().items()}}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(make, tiny_spec, tmp_path):
    spec = tiny_spec(backbone={"dropout": 0.2, "num_classes": 11})
    whole, broken, resumed = (make(spec, label_dropout=0.5) for _ in range(3))
    records = run(whole, tmp_path / "whole")
    # Stopped after the checkpoint at 256 images, in the middle of the next interval.
    early = run(broken, tmp_path / "broken", until=288)
    resumed.restore(tmp_path / "broken" / "000256")
    late = run(resumed, tmp_path / "broken")
    assert equal(weights(whole), weights(resumed))
    assert [r for r in early if r["images_seen"] <= 256] + late == records


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(make, tmp_path):
    a, b, c = make(), make(), make(seed=1)
    for trainer in (a, b, c):
        run(trainer, tmp_path / str(id(trainer)))
    assert equal(weights(a), weights(b))
    assert not equal(weights(a), weights(c))


def test_training_does_not_touch_the_global_generator(make, tmp_path):
    torch.default_generator.manual_seed(5)
    before = torch.get_rng_state()
    run(make(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_step_is_adams_step_on_the_named_streams(make, digits):
    trainer = make(images=320)
    start = {k: v.clone() for k, v in trainer.denoiser.backbone.state_dict().items()}
    trainer.step()
    # The same step by hand: streams by their names, loss by its formula, and Adam's first update, lr * sign(gradient).
    order = torch.randperm(len(digits), generator=generator(0, "data/order", 0))[:32]
    t = torch.randint(1000, (32,), generator=generator(0, "training/times", 0)).double()
    x0 = digits.pixels[order]
    eps = torch.empty_like(x0).normal_(generator=generator(0, "training/noise", 0))
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[t.long()][:, None, None, None]
    network = trainer.denoiser.spec.build(0).backbone
    loss = (network((abar.sqrt() * x0 + (1 - abar).sqrt() * eps).float(), t.float()) - eps).square().mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        moved = trainer.denoiser.backbone.state_dict()[name] - start[name]
        strong = parameter.grad.abs() > 1e-5
        torch.testing.assert_close(moved[strong], -1e-3 * parameter.grad.sign()[strong], rtol=2e-3, atol=1e-6)


def test_labels_become_the_null_class_at_their_rate_and_from_their_stream(make, tiny_spec, digits):
    trainer, given = make(tiny_spec(backbone={"num_classes": 11}), images=1280, label_dropout=0.3), []
    trainer.denoiser.backbone.register_forward_pre_hook(lambda module, args, cond: given.append(cond["y"]), with_kwargs=True)
    for _ in range(40):
        trainer.step()
    own = digits.labels[torch.randperm(len(digits), generator=generator(0, "data/order", 0))[:1280]]
    drawn = torch.cat([torch.rand(32, generator=generator(0, "training/labels", 32 * step)) for step in range(40)])
    assert torch.equal(torch.cat(given), torch.where(drawn < 0.3, 10, own))
    # The standard error of the rate is sqrt(0.21 / 1280) = 0.013.
    assert (torch.cat(given) == 10).float().mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_null_class_is_trained_if_and_only_if_labels_are_dropped(make, tiny_spec, dropout):
    trainer = make(tiny_spec(backbone={"num_classes": 11}), label_dropout=dropout)
    before = trainer.denoiser.backbone.label_emb.weight.detach().clone()
    for _ in range(10):
        trainer.step()
    moved = (trainer.denoiser.backbone.label_emb.weight != before).any(1)
    assert moved.tolist() == [True] * 10 + [dropout > 0]


def test_the_last_batch_is_cut_so_that_exactly_the_images_asked_for_are_seen(make, tmp_path):
    trainer = make(images=100)
    run(trainer, tmp_path)
    assert trainer.images_seen == 100
    assert (tmp_path / "000100").is_dir()


def test_a_checkpoint_loads_as_the_averaged_denoiser(make, tmp_path):
    trainer = make()
    run(trainer, tmp_path)
    loaded = read_checkpoint(tmp_path / "000320")
    assert equal(loaded.denoiser.backbone.state_dict(), trainer.average.module.state_dict())
    assert loaded.denoiser.spec == trainer.denoiser.spec
    assert loaded.facts["images_seen"] == 320


def test_the_moving_average_is_that_of_its_formula(make):
    trainer = make(ema={"type": "per-step", "decay": 0.75, "rampup_ratio": None})
    name, parameter = next(iter(trainer.denoiser.backbone.named_parameters()))
    trainer.step()
    expected = parameter.detach().clone()
    for _ in range(3):
        trainer.step()
        expected = 0.75 * expected + 0.25 * parameter.detach()
    torch.testing.assert_close(dict(trainer.average.module.named_parameters())[name].detach(), expected, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_before_the_update(make):
    trainer = make(optimizer=SGD(), learning_rate=1.0, gradient_clip=1e-3)
    before = [parameter.detach().clone() for parameter in trainer.denoiser.backbone.parameters()]
    trainer.step()
    moved = [(new.detach() - old).norm() for new, old in zip(trainer.denoiser.backbone.parameters(), before, strict=True)]
    # A step of gradient descent at rate 1 is as long as the gradient.
    assert torch.stack(moved).norm() == pytest.approx(1e-3, rel=1e-2)


def test_every_step_has_the_learning_rate_of_the_images_seen_before_it(make):
    trainer, rates = make(optimizer=SGD(), learning_rate=1e-3, warmup_images=96, lr_schedule="cosine", images=160), []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    for _ in range(5):
        trainer.step()
    # (32 k + 32) / 128 of the peak, then the cosine at 0 and at half of the 64 images that are left.
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 0.5e-3], rel=1e-12)


def test_dropout_draws_from_the_stream_of_the_images_seen(make, tiny_spec):
    trainer, states = make(tiny_spec(backbone={"dropout": 0.2})), []
    trainer.denoiser.backbone.register_forward_pre_hook(lambda *_: states.append(torch.get_rng_state()))
    for _ in range(3):
        trainer.step()
    assert [state.tolist() for state in states] == [generator(0, "training/dropout", seen).get_state().tolist() for seen in (0, 32, 64)]


def test_a_loss_that_is_not_finite_stops_training_and_names_step_times_and_checkpoint(make, tmp_path):
    trainer = make()
    steps = trainer.run(lambda seen: tmp_path / f"{seen:06d}")
    for progress in steps:
        if progress.images_seen == 160:
            next(trainer.denoiser.backbone.parameters()).data.fill_(float("nan"))
            break
    with pytest.raises(IntegrityError) as error:
        list(steps)
    message = str(error.value)
    assert message.startswith("training: the loss is not finite in the step that ended at 192 images, at t = ")
    assert message.endswith(f"lower the learning rate or clip the gradient (last good checkpoint: {tmp_path / '000128'})")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000128"]


def test_the_first_step_and_its_times_are_named_also_beside_a_short_last_batch(make, tmp_path, monkeypatch):
    # Batches of 32, 32, 32 and 4; one loss of the second is not finite, and after it all are.
    trainer = make(images=100, warmup_images=0, log_every=100, checkpoint_every=100)
    steps, times = [], []
    per_image = type(trainer.training.loss).per_image

    def diverging(loss, denoiser, x0, t, eps, **cond):
        losses = per_image(loss, denoiser, x0, t, eps, **cond)
        steps.append(len(losses))
        times.append(t)
        first = torch.arange(len(losses)) == 3
        return torch.where(first if len(steps) == 2 else torch.full_like(first, len(steps) > 2), torch.nan, losses)

    monkeypatch.setattr(type(trainer.training.loss), "per_image", diverging)
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)
    with pytest.raises(IntegrityError) as error:
        run(trainer, tmp_path)
    assert steps == [32, 32, 32, 4]
    assert f"in the step that ended at 64 images, at t = {times[1][3].item():g}; lower" in str(error.value)


def test_weights_that_are_not_finite_are_not_written(make, tmp_path):
    trainer = make()
    trainer.step()
    next(trainer.denoiser.backbone.parameters()).data.fill_(float("inf"))
    with pytest.raises(IntegrityError, match=r"weight 'time_embed.0.weight' is not finite after 32 images"):
        trainer.save(tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_exists_is_not_overwritten(make, tmp_path):
    trainer = make(images=64, checkpoint_every=32)
    run(trainer, tmp_path)
    written = (tmp_path / "000032" / "weights.safetensors").read_bytes()
    again = make(images=64, checkpoint_every=32, learning_rate=1.0)
    with pytest.raises(IntegrityError, match=rf"^{tmp_path}/000032: exists and is not overwritten"):
        run(again, tmp_path)
    assert (tmp_path / "000032" / "weights.safetensors").read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000032", "000064"]


def test_the_log_gives_the_loss_in_each_quarter_of_time(make, tmp_path):
    record = run(make(), tmp_path)[-1]
    quarters = [record[f"loss_q{k}"] for k in range(4)]
    assert min(quarters) <= record["loss"] <= max(quarters)
    assert record["images_seen"] == 320
    json.dumps(record)


def test_restoring_another_denoisers_checkpoint_is_refused(make, tiny_spec, tmp_path):
    run(make(images=32), tmp_path)
    other = make(tiny_spec(condition_map="e-tsdm"))
    with pytest.raises(CheckpointError, match="holds another denoiser than the recipe describes"):
        other.restore(tmp_path / "000032")
