"""Several sources as one data set, in proportion to weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from etsdm.data.augmentation import Draws
from etsdm.data.dataset import Dataset, Files
from etsdm.data.images import Images, to_signal
from etsdm.data.order import SampleOrder, WeightedOrder
from etsdm.data.split import Split
from etsdm.errors import PartError
from etsdm.registry import datasets
from etsdm.storage.files import digest_of

__all__ = ["Join", "JoinedImages"]


@datasets.register("join")
class Join(Dataset):
    """Several data sets of one shape as one; their training images follow each other in the order of a seed, and so do held-out ones.

    Attributes:
        sources: the data sets.
        weights: share of each source in the training images, or numbers in proportion to it; by default each image of all sources comes
            once an epoch. Within a source each image comes equally often. Held-out images are not weighted.
        classes: `shared` where label k is the same class in all sources; `offset` where each source has classes of its own, which are
            numbered after those of the sources before it.
    """

    sources: tuple[Dataset, ...] = Field(min_length=1)
    weights: tuple[PositiveFloat, ...] | None = None
    classes: Literal["shared", "offset"] = "shared"

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        first = self.sources[0]
        for k, source in enumerate(self.sources):
            if isinstance(source, Join):
                raise PartError(("sources", k), "is a join itself; list its sources here")
            if source.holds_latents:
                raise PartError(("sources", k), f"{source.type_name!r} holds latents; join the images, and encode the join")
            if source.shape != first.shape:
                found, wanted = ("x".join(map(str, shape)) for shape in (source.shape, first.shape))
                message = f"images of {source.type_name!r} are {found}, and those of {first.type_name!r} are {wanted}; give one shape"
                raise PartError(("sources", k), message)
            if source.are_pictures != first.are_pictures:
                raise PartError(("sources", k), f"{source.type_name!r} and {first.type_name!r} are not both pictures; join the like")
        if self.weights is not None:
            if len(self.weights) != len(self.sources):
                raise PartError("weights", f"{len(self.weights)} for {len(self.sources)} sources; give one for each")
            WeightedOrder.check_weights(self.weights)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W), equal in all sources."""
        return self.sources[0].shape

    @property
    def num_classes(self) -> int:
        """The most of a source, or the sum of all where they are offset. Raises: DataError as those of the sources."""
        found = [source.num_classes for source in self.sources]
        return max(found) if self.classes == "shared" else sum(found)

    @property
    def are_pictures(self) -> bool:
        """Whether the images of the sources are pictures."""
        return self.sources[0].are_pictures

    @property
    def crops_at_random(self) -> bool:
        """Whether all sources take crops."""
        return all(source.crops_at_random for source in self.sources)

    @property
    def holds_out(self) -> bool:
        """Whether a source holds out images."""
        return any(source.holds_out for source in self.sources)

    def check(self) -> None:
        """Checks every source. Raises: DataError as they do."""
        for source in self.sources:
            source.check()

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Checks the files of one source after the other."""
        for source in self.sources:
            yield from source.check_files()

    def passed_over(self) -> dict[str, str]:
        """Images of all sources that a training does without, with the number of the source before the name where several have one."""
        return {f"{k}: {name}": why for k, source in enumerate(self.sources) for name, why in source.passed_over().items()}

    def files(self) -> Files | None:
        """The files of all sources; None where no source has any."""
        found = [files for source in self.sources if (files := source.files()) is not None]
        if not found:
            return None
        missing = any(files.content is None for files in found)
        return Files(", ".join(str(files.place) for files in found), None if missing else digest_of([files.content for files in found]))

    def identity(self) -> dict[str, Any]:
        """The fields, with the identities of the sources."""
        return {**super().identity(), "sources": [source.identity() for source in self.sources]}

    def open(self, split: Split) -> JoinedImages:
        """Opens a split of every source. Raises: DataError as they do."""
        counts = [source.num_classes if self.classes == "offset" else 0 for source in self.sources]
        offsets = [sum(counts[:k]) for k in range(len(counts))]
        weights = self.weights if split == "train" else None
        return JoinedImages([source.open(split) for source in self.sources], offsets, weights)


class JoinedImages(Images):
    """Images of several sources, one after the other.

    Args:
        parts: images of each source.
        offsets: number that is added to the labels of each.
        weights: share of each in the order of training, None for each image once an epoch.
    """

    def __init__(self, parts: Sequence[Images], offsets: Sequence[int], weights: Sequence[float] | None) -> None:
        self.parts = parts
        self.offsets = offsets
        self.weights = weights
        self.in_memory = all(part.in_memory for part in parts)
        self.are_pictures = parts[0].are_pictures
        self._ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: Sequence[int] | Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.long).contiguous()
        if len(chosen) and (int(chosen.max()) >= len(self) or int(chosen.min()) < 0):
            raise IndexError(f"indices of {len(self)} images go from 0 to {len(self) - 1}")
        part_of = torch.searchsorted(self._ends, chosen, right=True)
        found, rows = [], []
        for k, part in enumerate(self.parts):
            here = (part_of == k).nonzero().flatten()
            if len(here) or not len(chosen):
                stored, labels = part.read(chosen[here] - self._start(k), None if draws is None else draws.rows(here))
                found.append((stored, labels + self.offsets[k]))
                rows.append(here)
        order = torch.cat(rows).argsort().to(found[0][0].device)
        stored, labels = (torch.cat(each) for each in zip(*_of_one_type(found), strict=True))
        return stored[order], labels[order]

    def to(self, device: torch.device | str) -> JoinedImages:
        moved = JoinedImages([part.to(device) for part in self.parts], self.offsets, self.weights)
        moved.device = torch.device(device)
        return moved

    def class_labels(self) -> Tensor:
        return torch.cat([part.class_labels() + offset for part, offset in zip(self.parts, self.offsets, strict=True)])

    def order(self, seed: int) -> SampleOrder:
        """Each image once an epoch, or the sources in proportion to their weights."""
        return (
            SampleOrder(len(self), seed) if self.weights is None else WeightedOrder([len(part) for part in self.parts], self.weights, seed)
        )

    def digest(self) -> str:
        """sha256 of the digests of all parts and of their offsets."""
        parts = zip(self.parts, self.offsets, strict=True)
        return hashlib.sha256("\n".join(f"{part.digest()} {offset}" for part, offset in parts).encode()).hexdigest()

    def _start(self, k: int) -> int:
        return int(self._ends[k - 1]) if k else 0


def _of_one_type(found: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Images of which some are levels and some values, as values."""
    if len({stored.dtype for stored, _ in found}) == 1:
        return found
    return [(to_signal(stored), labels) for stored, labels in found]
