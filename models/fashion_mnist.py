"""Fashion-MNIST from its IDX files, and the image sets that are written from it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")
DATA_SUBFOLDERS = ("", "fashion-mnist", "FashionMNIST/raw")
IMAGE_SIZE = 28
SUBSET_SEED = 20
BATCH_SIZE = 128
CROP_PADDING = 2
CLASSES = 10

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class DataError(Exception):
    """The data set is missing or is not what this script expects."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: Grey levels, uint8 [N, 28, 28].
        labels: Class numbers, int64 [N].
    """

    images: ByteArray
    labels: IntArray

    def take(self, indices: IntArray) -> ImageSet:
        """Returns the images and labels at ``indices``, in that order."""
        return ImageSet(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Normalisation:
    """The mean and standard deviation applied to pixels after their division by 255."""

    mean: float
    std: float

    def apply(self, pixels: Tensor) -> Tensor:
        """Turns uint8 pixels into the float32 values the network takes."""
        return (pixels.float() / 255.0 - self.mean) / self.std


def find_idx_file(folder: Path, name: str) -> Path:
    """Finds one IDX file, gzipped or not, in a folder or in a customary subfolder of it.

    Args:
        folder: Where to look.
        name: The file's name without ``.gz``.

    Returns:
        The path of the file.

    Raises:
        DataError: If there is no such file.
    """
    for subfolder in DATA_SUBFOLDERS:
        for suffix in ("", ".gz"):
            path = folder / subfolder / f"{name}{suffix}"
            if path.is_file():
                return path
    raise DataError(
        f"no {name}[.gz] in {folder}: run 'apt-get install dataset-fashion-mnist', "
        "or pass --data DIR with the four Fashion-MNIST IDX files"
    )


def read_idx(path: Path) -> ByteArray:
    """Reads an IDX file of unsigned bytes.

    Args:
        path: The file; a name ending in ``.gz`` is decompressed.

    Returns:
        The array, with the shape the file declares.

    Raises:
        DataError: If the file is not an IDX file of unsigned bytes or is cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    header = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">u4"))
    if len(shape) != content[3] or len(content) != header + int(np.prod(shape)):
        raise DataError(f"{path} does not have the length its header declares")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def load_split(folder: Path, prefix: str) -> ImageSet:
    """Loads the training (``train``) or the test (``t10k``) split.

    Args:
        folder: The folder given as ``--data``.
        prefix: The split's file name prefix.

    Returns:
        The split's images and labels.

    Raises:
        DataError: If a file is missing or the two files do not belong together.
    """
    images = read_idx(find_idx_file(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(find_idx_file(folder, f"{prefix}-labels-idx1-ubyte"))
    if images.shape != (len(labels), IMAGE_SIZE, IMAGE_SIZE) or labels.shape != (len(images),):
        raise DataError(f"{prefix} images {images.shape} do not match labels {labels.shape}")
    return ImageSet(images, labels.astype(np.int64))


def measure_normalisation(images: ByteArray) -> Normalisation:
    """Measures mean and standard deviation of the pixels, rounded to four decimals."""
    scaled = images.astype(np.float64) / 255.0
    return Normalisation(round(float(scaled.mean()), 4), round(float(scaled.std()), 4))


def augmented_batches(
    padded: Tensor, labels: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields one epoch of shuffled, randomly cropped and horizontally flipped batches.

    Args:
        padded: Zero-padded images, uint8 [N, 28 + 2 * padding, 28 + 2 * padding].
        labels: Class numbers [N].
        generator: The source of randomness.

    Yields:
        Pixels uint8 [batch, 1, 28, 28] and their labels; an incomplete last batch is left out.
    """
    offsets = padded.shape[-1] - IMAGE_SIZE + 1
    pixel = torch.arange(IMAGE_SIZE)
    order = torch.randperm(len(padded), generator=generator)
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        top = torch.randint(offsets, (BATCH_SIZE, 1), generator=generator)
        left = torch.randint(offsets, (BATCH_SIZE, 1), generator=generator)
        flip = torch.randint(2, (BATCH_SIZE, 1), generator=generator).bool()
        rows = top + pixel
        columns = left + torch.where(flip, pixel.flip(0), pixel)
        crops = padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        yield crops.unsqueeze(1), labels[chosen]


def stratified_subsets(labels: IntArray, sizes: tuple[int, ...]) -> list[IntArray]:
    """Draws disjoint subsets with equally many images of each class.

    Each run of ten images in a subset holds every class once, in random order. The draw depends
    on ``SUBSET_SEED`` alone, so all models trained by this script share the same subsets.

    Args:
        labels: The labels to draw from.
        sizes: For each subset, how many images of each class it gets.

    Returns:
        The indices of each subset.
    """
    random = np.random.RandomState(SUBSET_SEED)
    by_class = [random.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)]
    subsets: list[IntArray] = []
    start = 0
    for size in sizes:
        rows = np.stack([indices[start : start + size] for indices in by_class], axis=1)
        shuffled = [random.permutation(row) for row in rows]
        subsets.append(np.concatenate(shuffled).astype(np.int64))
        start += size
    return subsets


def write_npz(images: ImageSet, normalisation: Normalisation, path: Path) -> None:
    """Writes images, labels and normalisation as a compressed npz file.

    Args:
        images: What to write.
        normalisation: How the network's pixels are normalised.
        path: The file to write.
    """
    np.savez_compressed(
        path,
        x=images.images[..., np.newaxis],
        y=images.labels,
        mean=np.array([normalisation.mean], dtype=np.float32),
        std=np.array([normalisation.std], dtype=np.float32),
    )
