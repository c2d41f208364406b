"""How surely a classifier recognises the samples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveFloat

from etsdm.data import Images
from etsdm.errors import DataError
from etsdm.metrics.base import EvaluationInputs, Histogram, Metric, MetricResult, mean_value
from etsdm.registry import metrics

__all__ = ["Recognition"]

AT_A_TIME = 1024  # images in memory together


@metrics.register("recognition")
class Recognition(Metric):
    """Mean confidence with which a classifier fitted on the training split names the samples, and the classes it names.

    The classifier is scikit-learn's support vector machine on pixels with calibrated probabilities, which suits small images.
    """

    uses_samples: ClassVar[bool] = True
    uses_held_out: ClassVar[bool] = True

    regularisation: PositiveFloat = 10.0

    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """Confidence of samples and of held-out images, the classifier's held-out accuracy, and the class histogram.

        Raises:
            DataError: the training images are all of one class, or no image is held out.
        """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.svm import SVC

        train, test = inputs.train.load(), inputs.test.load()
        if len(train.labels.unique()) < 2:
            raise DataError("recognition: the training images have one class; this metric needs two or more")
        # Fixed folds and a deterministic solver: the same training images give the same classifier.
        classifier = CalibratedClassifierCV(SVC(C=self.regularisation, gamma="scale"), ensemble=False)
        classifier.fit(train.pixels.flatten(1).numpy(), train.labels.numpy())
        named, sureness = _name(classifier, inputs.samples)
        real_named, real_sureness = _name(classifier, test)
        accuracy = float(np.mean(real_named == test.labels.numpy()))
        classes = [int(label) for label in classifier.classes_]
        value = mean_value(
            torch.from_numpy(sureness),
            unit_name="sample",
            reference=float(real_sureness.mean()),
            higher_is_better=True,
            description=f"mean probability of the named class, by a classifier that names {accuracy:.1%} of held-out images rightly",
        )
        histogram = Histogram(
            names=tuple(str(label) for label in classes),
            shares=tuple(float(np.mean(named == label)) for label in classes),
            reference=tuple(float(np.mean(test.labels.numpy() == label)) for label in classes),
            label="share of images",
            description="Classes that the classifier names, beside the held-out images' true ones.",
        )
        return MetricResult(values={"recognition": value}, histograms={"classes": histogram})


def _name(classifier: object, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """The class named for each image, and its probability."""
    flat = (batch.pixels.flatten(1).numpy() for _, batch in images.batches(AT_A_TIME))
    probability = np.concatenate([classifier.predict_proba(batch) for batch in flat])  # type: ignore[attr-defined]
    return classifier.classes_[probability.argmax(1)], probability.max(1)  # type: ignore[attr-defined]
