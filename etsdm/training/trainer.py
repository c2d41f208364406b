"""The trainer: the training loop, as an iterator.

    x0 ~ data order,  t ~ time sampler,  eps ~ N(0, I):   step on  loss(denoiser, x0, t, eps),  then the moving average

Learning rate, data order and random streams are functions of the seed and of the images seen, so that resuming from a checkpoint gives
the same training, bit for bit.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etsdm.data import Images, TrainingLoader
from etsdm.denoisers.denoiser import DenoiserSpec
from etsdm.errors import IntegrityError
from etsdm.randomness import generator, seeded_global_rng
from etsdm.training.config import Training
from etsdm.training.data_scale import DataScale, measure_data, scale_warnings
from etsdm.training.state import read_state, write_state

__all__ = ["Progress", "Trainer"]

QUARTERS = 4  # equal intervals of time whose mean losses are logged apart, as in improved DDPM's code


FolderOf = Callable[[int], Path]


class Progress(NamedTuple):
    """Progress after a step.

    Fields: images_seen so far; images in the whole training; record, the log record due at this step, else None.
    """

    images_seen: int
    images: int
    record: dict[str, Any] | None


class Trainer:
    """Training loop of a denoiser.

    Args:
        spec: the denoiser's parts.
        training: length, loss, optimizer and learning rate.
        images: the training split.
        seed: seed of the weights, data order, times and noise.
        device: device of the denoiser.
        workers: threads that read images ahead of the training; see `etsdm.data.TrainingLoader`.

    Attributes:
        denoiser: the denoiser in training mode, with the current weights.
        average: the moving average of its backbone.
        optimizer: torch's optimizer of the backbone's parameters.
        images_seen: progress.
        log: records so far, those of before a resumption included.
        data_scale: mean and standard deviation of the training data, None before the first step.
    """

    def __init__(
        self, spec: DenoiserSpec, training: Training, images: Images, *, seed: int, device: torch.device | str = "cpu", workers: int = 0
    ) -> None:
        self.training = training
        self.seed = seed
        self.denoiser = spec.build(seed, device, first_stage_device="meta" if images.encoded else None).train()
        self.average = training.ema.build(self.denoiser.backbone)
        self.optimizer = training.optimizer.build(self.denoiser.backbone.parameters(), training.learning_rate)
        self.images_seen = 0
        self.log: list[dict[str, Any]] = []
        self.data_scale: DataScale | None = None
        self._images = images.to(device)
        ends = {"batch_size": training.batch_size, "end": training.images}
        self._loader = TrainingLoader(self._images, seed, **ends, augmentation=training.augmentation, workers=workers)
        self._device = torch.device(device)
        self._window: list[tuple[Tensor, Tensor]] = []
        self._last_good: Path | None = None

    def check_data(self) -> DataScale:
        """Measures the scale of the training data, once, and warns of one that does not suit schedule and target.

        Raises:
            DataError: training on it would be senseless; see `etsdm.training.data_scale`.
        """
        if self.data_scale is None:
            scale = measure_data(self.denoiser, self._images, self.training.batch_size)
            for message in scale_warnings(scale, self.denoiser.spec, are_pictures=self._images.are_pictures):
                warnings.warn(message, stacklevel=2)
            self.data_scale = scale
        return self.data_scale

    def step(self) -> None:
        """Takes one optimizer step on the next batch. Raises: DataError as `check_data`, before the first one."""
        self.check_data()
        training, seen = self.training, self.images_seen
        count = min(training.batch_size, training.images - seen)
        images = self._loader.batch(seen)
        labels = self._drop_labels(images.labels)
        x0, cond = self.denoiser.prepare_batch(images.pixels, labels, generator(self.seed, "training/latents", seen, self._device))
        t = training.time_sampler.draw(self.denoiser.schedule, count, generator(self.seed, "training/times", seen, self._device))
        eps = torch.empty_like(x0).normal_(generator=generator(self.seed, "training/noise", seen, self._device))
        with seeded_global_rng(self.seed, "training/dropout", seen, self._device):
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

    def _drop_labels(self, labels: Tensor) -> Tensor:
        """Replaces labels, (B,), by the null class with probability `label_dropout` (Ho and Salimans 2021)."""
        dropout, classes = self.training.label_dropout, self.denoiser.num_classes
        if not dropout or classes is None:
            return labels
        stream = generator(self.seed, "training/labels", self.images_seen, self._device)
        drawn = torch.rand(labels.shape, generator=stream, device=self._device)
        return torch.where(drawn < dropout, classes - 1, labels)

    def run(self, folder_of: FolderOf, **facts: Any) -> Iterator[Progress]:
        """Trains to the end and writes checkpoints.

        Args:
            folder_of: maps images seen to the folder of that checkpoint.
            **facts: JSON values to store in every checkpoint.

        Yields:
            `Progress` after each step, before a checkpoint due at it; an exhausted iterator has written the last checkpoint.

        Raises:
            DataError: as `check_data`, before the first step.
            IntegrityError: a loss or a weight is not finite, or the folder of a checkpoint exists; nothing is written then.
        """
        training = self.training
        self.check_data()
        clock, logged_at = time.perf_counter(), self.images_seen
        while self.images_seen < training.images:
            before = self.images_seen
            self.step()
            saves = self.images_seen >= training.images or _passed(before, self.images_seen, training.checkpoint_every)
            record = None
            # A record at every checkpoint too, so that a resumed training averages over the same windows.
            if saves or _passed(before, self.images_seen, training.log_every):
                record = self._record(self.images_seen - logged_at, time.perf_counter() - clock)
                self.log.append(record)
                clock, logged_at = time.perf_counter(), self.images_seen
            yield Progress(self.images_seen, training.images, record)
            if saves:
                self.save(folder_of(self.images_seen), **facts)

    def save(self, folder: Path, **facts: Any) -> None:
        """Writes a checkpoint: the denoiser with averaged weights, and the state for resuming."""
        for name, weight in self.denoiser.backbone.named_parameters():
            if not torch.isfinite(weight).all():
                raise IntegrityError(f"training: weight {name!r} is not finite after {self.images_seen} images; {self._mend()}")
        if self.data_scale is not None:
            facts["data_scale"] = self.data_scale.record()
        write_state(folder, self.denoiser, self.average, self.optimizer, images_seen=self.images_seen, log=self.log, **facts)
        self._last_good = folder

    def restore(self, folder: Path) -> None:
        """Resumes from a checkpoint. Raises: CheckpointError if it does not fit the denoiser, IntegrityError if it is damaged."""
        self.images_seen, self.log = read_state(folder, self.denoiser, self.average, self.optimizer)
        self._last_good = folder
        self._window.clear()

    def _check_losses(self) -> None:
        """Raises IntegrityError, with the first such step and its times, if a loss since the last record is not finite."""
        at = self.images_seen - sum(len(losses) for _, losses in self._window)
        for t, losses in self._window:
            at += len(losses)
            bad = ~torch.isfinite(losses)
            if bad.any():
                times = ", ".join(f"{value:g}" for value in t[bad][:8].tolist())
                raise IntegrityError(
                    f"training: the loss is not finite in the step that ended at {at} images, at t = {times}; {self._mend()}"
                )

    def _mend(self) -> str:
        return f"lower the learning rate or clip the gradient (last good checkpoint: {self._last_good or 'none yet'})"

    def _record(self, images: int, seconds: float) -> dict[str, Any]:
        """The log record of the images since the last one, which took so many seconds."""
        self._check_losses()
        t = torch.cat([times for times, _ in self._window])
        losses = torch.cat([values for _, values in self._window]).double()
        low, high = self.denoiser.schedule.domain
        quarter = ((t - low) / (high - low) * QUARTERS).long().clamp(0, QUARTERS - 1)
        self._window.clear()
        waited, self._loader.waited = self._loader.waited, 0.0
        by_quarter = {f"loss_q{k}": float(losses[quarter == k].mean()) for k in range(QUARTERS) if (quarter == k).any()}
        return {
            "images_seen": self.images_seen,
            "loss": float(losses.mean()),
            **by_quarter,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(images / seconds, 1),
            "seconds": round(seconds, 3),
            "data_seconds": round(waited, 3),
        }


def _passed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every
