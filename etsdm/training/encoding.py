"""Encoding of a data set into latents on disk, which `datasets` has as `latents`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from etsdm.backbones.first_stages import FirstStageNetwork
from etsdm.data import Dataset, Images, Split
from etsdm.data.latents import LATENTS_FILE, LatentsRecord, ShardRecord, SplitRecord
from etsdm.errors import CheckpointError, DataError, IntegrityError
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, locked
from etsdm.storage.records import read_record, write_record
from etsdm.storage.tensors import check_tensors, write_tensors

__all__ = ["encode_latents"]

SHARD_IMAGES = 1024  # images of a file


@storage_errors()
def encode_latents(
    first_stage: FirstStageNetwork,
    weights_sha256: str,
    data: Dataset,
    folder: Path | str,
    *,
    flips: bool = False,
    batch_size: int = 16,
) -> Iterator[tuple[int, int]]:
    """Writes what a first stage makes of a data set, both splits; a later call goes on where one was stopped.

    Args:
        first_stage: the network with its weights, on its device.
        weights_sha256: of the file of its weights, for the record.
        data: the images.
        folder: where to write; new, or of the same call before.
        flips: encodes the mirror image of each image as well.
        batch_size: images that are encoded at a time.

    Yields:
        The number of images that are encoded, and of all.

    Raises:
        DataError: an image cannot be read, or the folder holds latents of other images or of another first stage.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "encode", "another process encodes into it"):
        yield from _encode(first_stage, weights_sha256, data, folder, flips, batch_size)


def _encode(
    first_stage: FirstStageNetwork, weights_sha256: str, data: Dataset, folder: Path, flips: bool, batch_size: int
) -> Iterator[tuple[int, int]]:
    names: list[Split] = ["train", "test"] if data.holds_out else ["train"]
    splits = {name: data.open(name) for name in names}
    fields = first_stage.spec.model_dump(mode="json")
    made_of = [{key: value for key, value in fields.items() if key != "scale_factor"}, weights_sha256, flips, SHARD_IMAGES]
    device = next(first_stage.parameters()).device
    done, total = 0, sum(len(images) for images in splits.values())
    records = {}
    for name, images in splits.items():
        digest, shards = images.digest(), []
        for k, start in enumerate(range(0, len(images), SHARD_IMAGES)):
            rows = range(start, min(start + SHARD_IMAGES, len(images)))
            identity = digest_of([*made_of, name, digest, k])
            stem = f"{name}-{k:05d}"
            shard = _whole_shard(folder, stem, identity)
            if shard is None:
                tensors = _encoded(first_stage, images.to(device), rows, flips, batch_size)
                shard = ShardRecord(n=len(rows), file=write_tensors(folder / f"{stem}.safetensors", tensors), identity=identity)
                write_record(folder / f"{stem}.json", shard)
            shards.append(shard)
            done += len(rows)
            yield done, total
        records[str(name)] = SplitRecord(images=digest, shards=shards)
    record = LatentsRecord(
        image_shape=data.shape,
        moments_shape=first_stage.spec.moments_shape,
        num_classes=data.num_classes,
        flips=flips,
        first_stage=fields,
        weights_sha256=weights_sha256,
        splits=records,
    )
    write_record(folder / LATENTS_FILE, record)


def _whole_shard(folder: Path, stem: str, identity: str) -> ShardRecord | None:
    """The record of a shard that an earlier call wrote; None if there is none, or it is damaged. Raises: DataError if it is another's."""
    try:
        shard = read_record(folder / f"{stem}.json", ShardRecord)
        if shard is not None:
            check_tensors(folder, shard.file)
    except (CheckpointError, IntegrityError):
        return None
    if shard is not None and shard.identity != identity:
        raise DataError(f"{folder}: holds latents of other images or of another first stage; give another folder, or remove it")
    return shard


@torch.no_grad()
def _encoded(first_stage: FirstStageNetwork, images: Images, rows: range, flips: bool, batch_size: int) -> dict[str, Tensor]:
    """Moments, (N, views, *moments_shape), and labels of some images."""
    moments, labels = [], []
    for start in range(rows.start, rows.stop, batch_size):
        batch = images.batch(range(start, min(start + batch_size, rows.stop)))
        views = [batch.pixels, batch.pixels.flip(-1)] if flips else [batch.pixels]
        moments.append(torch.stack([first_stage.moments(view) for view in views], 1).float().cpu())
        labels.append(batch.labels.cpu())
    return {"moments": torch.cat(moments), "labels": torch.cat(labels)}
