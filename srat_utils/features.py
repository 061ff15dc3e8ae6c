"""Penultimate features: their t-SNE picture, and how separable they are in numbers."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .attacks import Attack, frozen, pgd
from .data import ImageDataset
from .evaluation import BATCH
from .models import Classifier


def penultimate(model: Classifier, dataset: ImageDataset, attack: Attack | None = None, *, seed: int = 0) -> np.ndarray:
    """Penultimate features, float32 [N,D], of the images as they are or, with an attack, of their adversarial examples."""
    device = next(model.parameters()).device
    images, labels = dataset.tensors(device)
    generator = torch.Generator(device).manual_seed(seed)
    collected = []
    for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        x = x.float() / 255
        if attack is not None:
            x = pgd(model, x, y, attack, generator=generator)
        with torch.no_grad(), frozen(model):
            collected.append(model.features(x).cpu())
    return torch.cat(collected).numpy()


def tsne(features: np.ndarray, *, seed: int = 0, perplexity: float = 30.0, init="pca") -> np.ndarray:
    """scikit-learn's t-SNE of features [N,D] in the plane, [N,2]; the perplexity is lowered where N is too small for it."""
    perplexity = min(perplexity, max(1.0, (len(features) - 1) / 3))
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(features)


def separability(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Three numbers for "how well do the classes part", each averaged over classes so that a rare one counts as much.

    silhouette: −1 (mixed) to 1 (tight and far apart), of features as they are.
    variance_ratio: variance between the class means over the mean variance within a class.
    probe_accuracy: balanced accuracy, in percent, of a cross-validated linear classifier; NaN if a class has one image.
    """
    classes, counts = np.unique(labels, return_counts=True)
    silhouettes = silhouette_samples(features, labels)
    means = np.stack([features[labels == c].mean(0) for c in classes])
    within = np.mean([features[labels == c].var(0).sum() for c in classes])
    probe = np.nan
    if counts.min() > 1:
        folds = StratifiedKFold(min(5, counts.min()), shuffle=True, random_state=0)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        predicted = cross_val_predict(classifier, features, labels, cv=folds)
        probe = 100 * np.mean([(predicted[labels == c] == c).mean() for c in classes])
    return {
        "silhouette": float(np.mean([silhouettes[labels == c].mean() for c in classes])),
        "variance_ratio": float(means.var(0).sum() / within) if within > 0 else np.inf,
        "probe_accuracy": float(probe),
    }
