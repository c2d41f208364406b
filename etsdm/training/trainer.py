"""The trainer: one loop, as an iterator, in which everything is a function of the seed and of images seen.

    x0 ~ data order,  t ~ time sampler,  eps ~ N(0, I):   step on  loss(denoiser, x0, t, eps),  then the moving average

Streams are keyed by images seen, so a training that was killed draws after its last checkpoint what it would have drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.data import Images, SampleOrder
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import IntegrityError
from etsdm.randomness import generator, seeded_global_rng
from etsdm.training.config import Training
from etsdm.training.state import read_state, write_state

__all__ = ["Progress", "Trainer"]

QUARTERS = 4  # the log gives the loss in each quarter of time, as improved DDPM's does


FolderOf = Callable[[int], Path]


class Progress(NamedTuple):
    """Where training is. Fields: images_seen; images, of the whole; record, a line for the log, or None between records."""

    images_seen: int
    images: int
    record: dict[str, Any] | None


class Trainer:
    """Trains a denoiser.

    Args:
        spec: what is trained.
        training: how.
        images: the training split.
        seed: of weights, data order, times and noise.
        device: where.
    """

    def __init__(self, spec: DenoiserSpec, training: Training, images: Images, *, seed: int, device: torch.device | str = "cpu") -> None:
        self.training = training
        self.seed = seed
        self.denoiser = spec.build(seed, device).train()
        self.average = training.ema.build(self.denoiser.backbone)
        self.optimizer = training.optimizer.build(self.denoiser.backbone.parameters(), training.learning_rate)
        self.images_seen = 0
        self._images = images.to(device)
        self._order = SampleOrder(len(images), seed)
        self._device = torch.device(device)
        self._window: list[tuple[Tensor, Tensor]] = []
        self._last_good: Path | None = None

    def step(self) -> None:
        """One step of the optimiser on the next batch."""
        training, seen = self.training, self.images_seen
        count = min(training.batch_size, training.images - seen)
        images = self._images.batch(self._order.indices(seen, count))
        labels = self._told(images.labels)
        x0, cond = self.denoiser.prepare_batch(images.pixels, labels, generator(self.seed, "training/latents", seen, self._device))
        t = training.time_sampler.draw(self.denoiser.schedule, count, generator(self.seed, "training/times", seen, self._device))
        eps = torch.empty_like(x0).normal_(generator=generator(self.seed, "training/noise", seen, self._device))
        with seeded_global_rng(self.seed, "training/dropout", seen):
            losses = training.loss.per_image(self.denoiser, x0, t, eps, **cond)
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate_at(seen)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        if training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.denoiser.backbone.parameters(), training.gradient_clip)
        self.optimizer.step()
        self.average.update_parameters(self.denoiser.backbone)
        self._window.append((t.detach(), losses.detach()))
        self.images_seen += count

    def _told(self, labels: Tensor) -> Tensor:
        """The labels that the network is told of the next images, (B,): their own, or at random the last one, that of no class."""
        dropout, classes = self.training.label_dropout, self.denoiser.num_classes
        if not dropout or classes is None:
            return labels
        stream = generator(self.seed, "training/labels", self.images_seen, self._device)
        drawn = torch.rand(labels.shape, generator=stream, device=self._device)
        return torch.where(drawn < dropout, classes - 1, labels)

    def run(self, folder_of: FolderOf, **facts: Any) -> Iterator[Progress]:
        """Trains to the end, writing checkpoints.

        Args:
            folder_of: from images seen to the folder of that checkpoint.
            **facts: JSON values to keep in every checkpoint.

        Yields:
            `Progress` after each step, before the checkpoint that may follow it; when the iterator is exhausted, the last
            checkpoint is written.

        Raises:
            IntegrityError: the loss or a weight is no longer finite; nothing is written after the last good checkpoint.
        """
        training = self.training
        clock, logged_at = time.perf_counter(), self.images_seen
        while self.images_seen < training.images:
            before = self.images_seen
            self.step()
            saves = self.images_seen >= training.images or _passed(before, self.images_seen, training.checkpoint_every)
            record = None
            # A record at every checkpoint too: a resumed training then logs the same windows as an uninterrupted one.
            if saves or _passed(before, self.images_seen, training.log_every):
                record = self._record((self.images_seen - logged_at) / (time.perf_counter() - clock))
                clock, logged_at = time.perf_counter(), self.images_seen
            yield Progress(self.images_seen, training.images, record)
            if saves:
                self.save(folder_of(self.images_seen), **facts)

    def save(self, folder: Path, **facts: Any) -> None:
        """Writes a checkpoint: the averaged weights as a denoiser, and the state to go on from."""
        for name, weight in self.denoiser.backbone.named_parameters():
            if not torch.isfinite(weight).all():
                raise IntegrityError(f"training: weight {name!r} is not finite after {self.images_seen} images; {self._mend()}")
        write_state(folder, self.denoiser, self.average, self.optimizer, images_seen=self.images_seen, **facts)
        self._last_good = folder

    def restore(self, folder: Path) -> None:
        """Goes back to a checkpoint. Raises: CheckpointError or IntegrityError if it does not fit or is damaged."""
        self.images_seen = read_state(folder, self.denoiser, self.average, self.optimizer)
        self._last_good = folder
        self._window.clear()

    def _check_losses(self) -> None:
        """Raises if any loss since the last record is not finite, naming the step and the times."""
        for back, (t, losses) in enumerate(reversed(self._window)):
            bad = ~torch.isfinite(losses)
            if bad.any():
                at = self.images_seen - back * self.training.batch_size
                times = ", ".join(f"{value:g}" for value in t[bad][:8].tolist())
                raise IntegrityError(
                    f"training: the loss is not finite in the step that ended at {at} images, at t = {times}; {self._mend()}"
                )

    def _mend(self) -> str:
        return f"lower the learning rate or clip the gradient (last good checkpoint: {self._last_good or 'none yet'})"

    def _record(self, rate: float) -> dict[str, Any]:
        self._check_losses()
        t = torch.cat([times for times, _ in self._window])
        losses = torch.cat([values for _, values in self._window]).double()
        low, high = self.denoiser.schedule.domain
        quarter = ((t - low) / (high - low) * QUARTERS).long().clamp(0, QUARTERS - 1)
        self._window.clear()
        by_quarter = {f"loss_q{k}": float(losses[quarter == k].mean()) for k in range(QUARTERS) if (quarter == k).any()}
        return {
            "images_seen": self.images_seen,
            "loss": float(losses.mean()),
            **by_quarter,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(rate, 1),
        }


def _passed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every
