"""The Lipschitz curve as a metric."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from etsdm.lipschitz import lipschitz_curve
from etsdm.metrics.base import Curve, Metric, Outcome, Subject, mean_value
from etsdm.registry import metrics

__all__ = ["Lipschitz"]


@metrics.register("lipschitz")
class Lipschitz(Metric):
    """K(t, t+1), the change of the output with the condition alone, at timesteps `start` to `stop` - 1 (paper Eq. 8)."""

    images: PositiveInt = 128
    start: NonNegativeInt = 0
    stop: PositiveInt = 200
    batch_size: PositiveInt = 128

    def compute(self, subject: Subject) -> Outcome:
        """The curve on noised training images, and the mean over the timesteps below and above 100."""
        chosen = slice(min(self.images, len(subject.train)))
        labels = subject.train.labels[chosen] if subject.denoiser.num_classes else None
        curve = lipschitz_curve(
            subject.denoiser,
            subject.train.pixels[chosen],
            range(self.start, self.stop),
            seed=subject.seed,
            batch_size=self.batch_size,
            y=labels,
        )
        values = {}
        for low, high in ((0, 10), (10, 50), (50, 100), (0, 100), (100, self.stop)):
            inside = (curve.t >= low) & (curve.t < high)
            if inside.any() and low >= self.start and high <= self.stop:
                description = f"mean of K(t, t+1) over t in [{low}, {high})"
                values[f"K [{low}, {high})"] = mean_value(curve.values[inside].mean(0), description=description)
        shown = Curve(
            t=tuple(curve.t.tolist()),
            mean=tuple(curve.mean.tolist()),
            se=tuple(curve.se.tolist()) if len(curve.values[0]) > 1 else None,
            label="K(t, t+1)",
            log_scale=True,
            description="Change of the network's output from t to t+1 at the same noised image (paper Eq. 8), per step.",
        )
        return Outcome(values=values, curves={"lipschitz": shown})
