"""Latents that `etsdm data encode` wrote, in place of the images that they were made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from etsdm.data.dataset import Dataset, Files
from etsdm.data.latents import LATENTS_FILE, LatentImages, LatentsRecord
from etsdm.data.opened import OpenedOnce, state_of
from etsdm.data.split import Split
from etsdm.errors import CheckpointError, DataError, IntegrityError
from etsdm.registry import Part, datasets
from etsdm.registry.paths import FilePath
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of
from etsdm.storage.records import read_record
from etsdm.storage.tensors import check_tensors

__all__ = ["Latents"]


def _read(path: Path) -> LatentsRecord | None:
    return read_record(path, LatentsRecord)


_records = OpenedOnce(_read, state_of)


@datasets.register("latents")
class Latents(Dataset):
    """Latents on disk, which train a latent diffusion model without its first stage; splits and labels are those of their images.

    Attributes:
        path: folder that `etsdm data encode` wrote; relative to the recipe's file, or to the working directory if it is given elsewhere.
        images: data set of the images, for metrics that compare pixels; None for none.
    """

    descriptive: ClassVar[frozenset[str]] = frozenset({"path"})

    path: FilePath = Field(min_length=1)
    images: Dataset | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images. Raises: DataError if there are no latents."""
        return self.record.image_shape

    @property
    def num_classes(self) -> int:
        return self.record.num_classes

    @property
    def holds_out(self) -> bool:
        return "test" in self.record.splits

    @property
    def pixels(self) -> Dataset | None:
        return self.images

    @property
    def holds_latents(self) -> bool:
        return True

    @property
    def root(self) -> Path:
        """`path` as an absolute path."""
        return Path(self.path).expanduser().absolute()

    @property
    def record(self) -> LatentsRecord:
        """Record of the folder, read once until the file changes. Raises: DataError if it holds no latents."""
        try:
            record = _records(self.root / LATENTS_FILE)
        except IntegrityError as error:
            raise DataError(str(error)) from None
        except OSError:
            record = None
        if record is None:
            command = f"etsdm data encode RECIPE --out {self.path}, with the recipe that has the images as its data"
            raise DataError(f"data.path: {self.root} holds no {LATENTS_FILE}; make the latents with {command}")
        return record

    def check(self) -> None:
        """Checks that all shards are there. Raises: DataError if one is missing."""
        for split in self.record.splits.values():
            for shard in split.shards:
                if not (self.root / shard.file.file).is_file():
                    raise DataError(f"{self.root / shard.file.file}: is missing; encode again, which makes what is missing")

    def check_files(self) -> Iterator[tuple[int, int]]:
        """Verifies the sha256 of all shards; see `Dataset.check_files`."""
        shards = [shard for split in self.record.splits.values() for shard in split.shards]
        done, total = 0, sum(shard.n for shard in shards)
        for shard in shards:
            try:
                check_tensors(self.root, shard.file)
            except (CheckpointError, IntegrityError) as error:
                raise DataError(f"{error}; or encode again, which makes what is damaged") from None
            done += shard.n
            yield done, total

    def check_training(self, first_stage: Part | None, weights_sha256: str | None, flips: bool) -> None:
        """Raises: DataError if the model has another first stage than encoded the latents, or flips need mirror images."""
        record = self.record
        found, expected = {} if first_stage is None else first_stage.model_dump(mode="json"), record.first_stage
        # The scale factor is applied to the moments.
        if changed := sorted(key for key in {*found, *expected} - {"scale_factor"} if found.get(key) != expected.get(key)):
            raise DataError(f"model.first_stage: is not the one that encoded {self.root} ({', '.join(changed)}); encode again with it")
        if weights_sha256 is not None and weights_sha256 != record.weights_sha256:
            raise DataError(f"training.first_stage_weights: are not those that encoded {self.root}; give those, or encode again")
        if flips and not record.flips:
            raise DataError(f"training.flip: {self.root} holds no mirror images; encode again with flip, or leave it out")

    @storage_errors()
    def files(self) -> Files:
        """The folder, and a digest of its record, which has the sha256 of every shard."""
        content = digest_of(self.record.model_dump(mode="json")) if (self.root / LATENTS_FILE).is_file() else None
        return Files(self.path, content)

    def open(self, split: Split) -> LatentImages:
        """Opens one split. Raises: DataError as `check`."""
        self.check()
        record = self.record
        if split not in record.splits:
            return LatentImages(self.root, next(iter(record.splits.values())).model_copy(update={"shards": []}), record.flips)
        return LatentImages(self.root, record.splits[split], record.flips)
