"""Penultimate features: their t-SNE picture, and how separable they are in numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from .attacks import PGD, frozen
from .devices import cpu_threads
from .evaluation import BATCH
from .images import ImageDataset
from .models import Classifier, at_once
from .places import remembered


def penultimate(model: Classifier, dataset: ImageDataset, attack: PGD | None = None, *, seed: int = 0) -> np.ndarray:
    """Penultimate features, float32 [N,D], of the images as they are or, with an attack, of their adversarial examples."""
    images, labels = dataset.tensors(model.device)
    generator = torch.Generator(model.device).manual_seed(seed)
    collected = []
    with cpu_threads(model.spec.architecture):
        number = at_once(images.shape[2:], BATCH)
        for x, y in zip(images.split(number), labels.split(number), strict=True):
            x = x.float() / 255
            if attack is not None:
                x = attack(model, x, y, generator=generator)
            with torch.no_grad(), frozen(model):
                collected.append(model.features(x).cpu())
    return torch.cat(collected).numpy()


# On some hundred points a second thread brings nothing, and costs minutes where another process holds its core.
one_thread = threadpool_limits.wrap(limits=1)


@one_thread
@remembered
def tsne(
    features: np.ndarray, *, seed: int = 0, perplexity: float = 30.0, start: np.ndarray | None = None
) -> np.ndarray:
    """scikit-learn's t-SNE of features [N,D] in the plane, [N,2]; the perplexity is lowered where N is too small for it.

    start: points [N,2] to go on from; None begins with PCA.  Points that are arranged already are not pulled together first
    (early exaggeration): on the course's features they then move a quarter less, and the fit is worse by a few per cent.
    """
    perplexity = min(perplexity, max(1.0, (len(features) - 1) / 3))
    options = {"init": "pca"} if start is None else {"init": start.astype(np.float32), "early_exaggeration": 1.0}
    return TSNE(perplexity=perplexity, random_state=seed, **options).fit_transform(features)


def pca(features: np.ndarray) -> np.ndarray:
    """The first two principal components of features [N,D], [N,2]."""
    with np.errstate(invalid="ignore"):  # features without any variance: all points on one spot
        return PCA(2, svd_solver="full").fit_transform(features)


def aligned(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points [N,2] moved, turned or mirrored, and scaled as a whole onto the same N points of `reference`.

    A picture in the plane has no position, orientation or size of its own; its shape stays as it is (Procrustes).
    """
    if len(points) != len(reference):
        raise ValueError(f"{len(points)} points cannot be aligned to {len(reference)}: both must show the same images")
    centre = reference.mean(0)
    here, there = points - points.mean(0), reference - centre
    rotation, _ = orthogonal_procrustes(here, there)
    size = np.linalg.norm(here)
    return here @ rotation * (np.linalg.norm(there) / size if size > 0 else 1.0) + centre


def aligned_embeddings(
    features: Mapping[Hashable, np.ndarray], method: str = "t-SNE", *, seed: int = 0
) -> dict[Hashable, np.ndarray]:
    """Features of the same images in one plane, [N,2] for each value, so that an image moves as little as it can.

    features: value → [N,D], in the order of a slider.  method: "t-SNE", each started from the points before it, or "PCA".
    Every picture is aligned to the one before it.  Raises ValueError for an unknown method or unequal numbers of images.
    """
    if method not in ("t-SNE", "PCA"):
        raise ValueError(f"method must be 't-SNE' or 'PCA', not {method!r}")
    if len(numbers := {len(z) for z in features.values()}) > 1:
        raise ValueError(f"every value must show the same images, but there are {sorted(numbers)} of them")
    embedded: dict[Hashable, np.ndarray] = {}
    before = None
    for value, z in features.items():
        points = pca(z) if method == "PCA" else tsne(z, seed=seed, start=before)
        before = embedded[value] = points if before is None else aligned(points, before)
    return embedded


def variance_ratio(features: np.ndarray, labels: np.ndarray) -> float:
    """Variance between the class means over the mean variance within a class; infinite where classes are single points."""
    classes = np.unique(labels)
    means = np.stack([features[labels == c].mean(0) for c in classes])
    within = np.mean([features[labels == c].var(0).sum() for c in classes])
    return float(means.var(0).sum() / within) if within > 0 else np.inf


@one_thread
@remembered
def separability(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Three numbers for "how well do the classes part", each averaged over classes so that a rare one counts as much.

    silhouette: −1 (mixed) to 1 (tight and far apart), of features as they are.
    variance_ratio: variance between the class means over the mean variance within a class.
    probe_accuracy: balanced accuracy, in percent, of a cross-validated linear classifier; NaN if a class has one image.
    Of classes that all have one image, the silhouette is NaN, too.
    """
    classes, counts = np.unique(labels, return_counts=True)
    silhouettes = silhouette_samples(features, labels) if counts.max() > 1 else np.full(len(labels), np.nan)
    probe = np.nan
    if counts.min() > 1:
        folds = StratifiedKFold(min(5, counts.min()), shuffle=True, random_state=0)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        predicted = cross_val_predict(classifier, features, labels, cv=folds)
        probe = 100 * np.mean([(predicted[labels == c] == c).mean() for c in classes])
    return {
        "silhouette": float(np.mean([silhouettes[labels == c].mean() for c in classes])),
        "variance_ratio": variance_ratio(features, labels),
        "probe_accuracy": float(probe),
    }
