"""Seeded, stratified samples: every class keeps its share.

Within a class the images are shuffled by numpy's PCG64 generator; places that do not divide evenly
go to the classes with the largest remainders; of equal ones the seed decides, or of one image a
class a half would be the lower half of the classes.
"""

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._data.images import ImageSet
from onnxsemi._errors import DataError


def stratified(classes: Int64Array, count: int, seed: int) -> Int64Array:
    """Indices of ``count`` images, ascending.

    Args:
        classes: int64[N], class of each image.
        count: How many to take; all of them if there are no more.
        seed: Seed of the shuffle.

    >>> stratified(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0).size
    3
    """
    if count >= len(classes):
        return np.arange(len(classes))
    generator = np.random.default_rng(seed)
    values, sizes = np.unique(classes, return_counts=True)
    chosen = [
        generator.permutation(np.flatnonzero(classes == value))[:quota]
        for value, quota in zip(values, _quotas(sizes, count, seed), strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def split(images: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Disjoint search and test images; about ``fraction`` of them go to the report.

    Copies of an image go where the first of them goes.

    Raises:
        DataError: If the images have no labels to stratify by, or one side would be empty.
    """
    if images.labels is None:
        raise DataError(f"{images.name}: images without labels cannot be stratified")
    _, first, copy_of = np.unique(images.digests(), return_index=True, return_inverse=True)
    order = np.argsort(first)  # so that the draw follows the order of the images
    first = first[order]
    drawn = stratified(images.strata[first], round(len(first) * fraction), seed)
    in_report = np.isin(copy_of, order[drawn])
    report, search = np.flatnonzero(in_report), np.flatnonzero(~in_report)
    if not len(report) or not len(search):
        raise DataError(f"{images.name}: {len(images)} images are too few to split in two")
    return images.select(search), images.select(report)


def refuse_overlap(search: ImageSet, report: ImageSet) -> None:
    """Refuse images that are in both sets: accuracy may not be claimed on what was searched on.

    Raises:
        DataError: With the number of shared images and the first of them.
    """
    known = set(search.digests())
    shared = [index for index, digest in enumerate(report.digests()) if digest in known]
    if shared:
        raise DataError(
            f"{report.name}: {len(shared)} of its {len(report)} images are in {search.name} too "
            f"(the first is image {shared[0]}): test data must be images the search never saw"
        )


def _quotas(sizes: Int64Array, count: int, seed: int) -> Int64Array:
    """Places of each class: int64[K], ``count`` in sum."""
    shares = sizes * count / sizes.sum()
    quotas = np.floor(shares).astype(np.int64)
    ties = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes))
    order = np.lexsort((ties, -(shares - quotas)))
    quotas[order[: count - int(quotas.sum())]] += 1
    return np.asarray(quotas)
