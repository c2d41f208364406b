"""Confidence of a classifier on the samples."""

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

CLASSIFIER_BATCH = 1024  # images in memory together


@metrics.register("recognition")
class Recognition(Metric):
    """Mean confidence of a classifier, fitted on the training split, on the samples, and the shares of their predicted classes.

    The classifier is scikit-learn's support vector machine on pixels with calibrated probabilities, which suits small images.

    Attributes:
        regularisation: scikit-learn's C, the inverse of the strength.
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
        predicted, confidence = _predict(classifier, inputs.samples)
        real_predicted, real_confidence = _predict(classifier, test)
        accuracy = float(np.mean(real_predicted == test.labels.numpy()))
        classes = [int(label) for label in classifier.classes_]
        value = mean_value(
            torch.from_numpy(confidence),
            unit_name="sample",
            reference=float(real_confidence.mean()),
            higher_is_better=True,
            description=f"mean probability of the predicted class, by a classifier with {accuracy:.1%} accuracy on held-out images",
        )
        histogram = Histogram(
            names=tuple(str(label) for label in classes),
            shares=tuple(float(np.mean(predicted == label)) for label in classes),
            reference=tuple(float(np.mean(test.labels.numpy() == label)) for label in classes),
            label="share of images",
            description="Predicted classes of the samples, beside the true ones of held-out images.",
        )
        return MetricResult(values={"recognition": value}, histograms={"classes": histogram})


def _predict(classifier: object, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """The predicted class of each image, and its probability."""
    flat = (batch.pixels.flatten(1).numpy() for _, batch in images.batches(CLASSIFIER_BATCH))
    probability = np.concatenate([classifier.predict_proba(batch) for batch in flat])  # type: ignore[attr-defined]
    return classifier.classes_[probability.argmax(1)], probability.max(1)  # type: ignore[attr-defined]
