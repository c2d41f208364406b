"""`MeasuredModel`: a denoiser whose change over time is measured, with the clean images that are noised for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from etsdm.analysis.time_grid import edges_of
from etsdm.condition_maps import ConditionMap, Identity
from etsdm.data import Dataset, Split
from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.denoiser import Denoiser
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.randomness import generator
from etsdm.registry import suggestion
from etsdm.schedules import Schedule
from etsdm.targets import Eps, Target
from etsdm.theory import MIXTURES, ExactDenoiser

__all__ = ["MeasuredModel"]

ENCODER_BATCH_SIZE = 64  # images that go through a first stage together


class MeasuredModel(NamedTuple):
    """A denoiser, trained or exact, and the images on which its K curve is measured.

    Fields: label, of its curve; arm, whose curves share one mean in a figure; denoiser; images, clean, (N, ...); cond, conditioning
    inputs, a row for each image; facts, JSON values that identify it; edges, of the sub-intervals of its condition map.
    """

    label: str
    arm: str
    denoiser: DenoiserLike
    images: Tensor
    cond: dict[str, Tensor]
    facts: dict[str, Any]
    edges: tuple[float, ...]

    @classmethod
    def trained(cls, denoiser: Denoiser, data: Dataset, n: int, *, label: str, arm: str | None = None, split: Split = "train") -> Self:
        """A trained denoiser on the first images of a data set.

        Args:
            denoiser: in eval mode.
            data: of images as large as the denoiser's.
            n: how many of them at most.
            label: of its curve.
            arm: `label` by default.
            split: of the data set, `train` or `test`.

        Raises:
            PartError: the data set's images have another shape.
            DataError: they are missing.
        """
        spec = denoiser.spec
        if data.shape != spec.image_shape:
            found, wanted = ("x".join(map(str, shape)) for shape in (data.shape, spec.image_shape))
            raise PartError("data", f"images of {data.type_name!r} are {found}, but the denoiser takes {wanted}; give another data set")
        opened = data.open(split)
        images = opened.batch(range(min(n, len(opened))))
        facts = {**_parts(denoiser), "data": data.model_dump(mode="json"), "images": images.digest()}
        batches = [denoiser.prepare_batch(batch.pixels, batch.labels) for _, batch in images.batches(ENCODER_BATCH_SIZE)]
        x0 = torch.cat([x for x, _ in batches])
        cond = {name: torch.cat([inputs[name] for _, inputs in batches]) for name in batches[0][1]}
        return cls(label, arm or label, denoiser, x0, cond, facts, edges_of(spec.condition_map, spec.schedule))

    @classmethod
    def exact(
        cls,
        mixture: str,
        schedule: Schedule,
        target: Target | None = None,
        condition_map: ConditionMap | None = None,
        *,
        n: int,
        seed: int = 0,
    ) -> Self:
        """The optimum of training on a Gaussian mixture, on samples of it; labelled by its condition map.

        Args:
            mixture: a name of `etsdm.theory.MIXTURES`.
            schedule: of the noise.
            target: eps by default.
            condition_map: identity by default.
            n: number of samples.
            seed: of the samples.

        Raises:
            PartError: the mixture is unknown, or the map does not fit the schedule.
        """
        if mixture not in MIXTURES:
            raise PartError("mixture", f"{mixture!r} is no mixture; {suggestion(mixture, MIXTURES, 'mixtures')}")
        conditions = condition_map or Identity()
        for problem in conditions.check(schedule):
            raise PartError(("condition_map", *problem.location), problem.message)
        denoiser = ExactDenoiser(MIXTURES[mixture], schedule, target=target or Eps(), condition_map=conditions)
        samples, label = MIXTURES[mixture].sample(n, generator(seed, "lipschitz/samples")), conditions.type_name
        return cls(label, label, denoiser, samples, {}, {"exact": mixture, **_parts(denoiser)}, edges_of(conditions, schedule))

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Images and conditioning inputs, `batch_size` at a time, as `lipschitz_curve` takes them."""
        for start in range(0, len(self.images), batch_size):
            rows = slice(start, start + batch_size)
            yield self.images[rows], {name: value[rows] for name, value in self.cond.items()}


def _parts(denoiser: DenoiserConfig) -> dict[str, Any]:
    parts = {"schedule": denoiser.schedule, "target": denoiser.target, "condition_map": denoiser.condition_map}
    return {name: part.model_dump(mode="json") for name, part in parts.items()}
