"""Confidence of a classifier on the samples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveFloat

from etsdm.data import Images
from etsdm.errors import DataError, PartError
from etsdm.metrics.base import EvaluationInputs, EvaluationPlan, Histogram, Metric, MetricResult, mean_value
from etsdm.registry import metrics

__all__ = ["Recognition"]

FOLDS = 5  # of the calibration, each with an image of every class
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

    def check(self, plan: EvaluationPlan) -> None:
        """Raises PartError if the data have one class."""
        if plan.data.num_classes < 2:
            message = f"'recognition' tells classes apart, and data set {plan.data.type_name!r} has one"
            raise PartError("type", f"{message}; give its labels by data.classes, or leave the metric out")

    def check_images(self, train: Images, test: Images) -> None:
        """Raises DataError if the training images have one class, or a class has fewer than five."""
        classes, counts = train.class_labels().unique(return_counts=True)
        if len(classes) < 2:
            raise DataError("recognition: the training images have one class; this metric needs two or more")
        if (least := int(counts.min())) < FOLDS:
            label = int(classes[counts.argmin()])
            message = f"recognition: class {label} has {least} training images, fewer than the {FOLDS} folds of its calibration"
            raise DataError(f"{message}; add images, hold out fewer, or leave the metric out")

    def compute(self, inputs: EvaluationInputs) -> MetricResult:
        """Confidence of samples and of held-out images, the classifier's held-out accuracy, and the class histogram.

        Raises:
            DataError: as `check_images`, or no image is held out.
        """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.svm import SVC

        self.check_images(inputs.train, inputs.test)
        train, test = inputs.train.load(), inputs.test.load()
        # Fixed folds and a deterministic solver: the same training images give the same classifier.
        classifier = CalibratedClassifierCV(SVC(C=self.regularisation, gamma="scale"), cv=FOLDS, ensemble=False)
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
