"""Accuracy per class, clean and under attack, in percent."""

from __future__ import annotations

import pandas as pd
import torch

from .attacks import Attack, frozen, pgd
from .data import ImageDataset
from .models import Classifier

BATCH = 512
COLLAPSED_ABOVE = 0.9  # share of clean predictions that one class takes


def evaluate(model: Classifier, dataset: ImageDataset, attacks: list[Attack], *, seed: int = 0) -> pd.DataFrame:
    """Tidy frame, a row for each class and attack: class, images, attack, accuracy, predicted.

    attack is "clean" or the attack's name ("pgd-20"); accuracy is in percent of the class's own images; predicted counts
    the images of any class that the model put into this one.
    """
    device = next(model.parameters()).device
    images, labels = dataset.tensors(device)
    rows = []
    for name, attack in [("clean", None), *((attack.name, attack) for attack in attacks)]:
        predictions = predict(model, images, labels, attack, seed=seed)
        for index, class_name in enumerate(dataset.classes):
            own = labels == index
            accuracy = 100 * (predictions[own] == index).double().mean().item()
            rows.append((class_name, int(own.sum()), name, accuracy, int((predictions == index).sum())))
    return pd.DataFrame(rows, columns=["class", "images", "attack", "accuracy", "predicted"])


def predict(
    model: Classifier, images: torch.Tensor, labels: torch.Tensor, attack: Attack | None = None, *, seed: int = 0
):
    """Predicted classes [N] of uint8 images [N,C,H,W], attacked first where an attack is given."""
    generator = torch.Generator(images.device).manual_seed(seed)
    predictions = []
    for batch, truth in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        batch = batch.float() / 255
        if attack is not None:
            batch = pgd(model, batch, truth, attack, generator=generator)
        with torch.no_grad(), frozen(model):
            predictions.append(model(batch).argmax(1))
    return torch.cat(predictions)


def summarise(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row an attack: overall (per image), balanced (mean over classes), well, under (means over the group), worst class.

    metrics: `evaluate`'s frame with the column group, "well" or "under".
    """

    def summary(rows: pd.DataFrame) -> pd.Series:
        by_group = rows.groupby("group")["accuracy"].mean()
        return pd.Series(
            {
                "overall": (rows["accuracy"] * rows["images"]).sum() / rows["images"].sum(),
                "balanced": rows["accuracy"].mean(),
                "well": by_group.get("well"),
                "under": by_group.get("under"),
                "worst": rows["accuracy"].min(),
            }
        )

    return metrics.groupby("attack", sort=False)[["accuracy", "images", "group"]].apply(summary)


def is_collapsed(metrics: pd.DataFrame) -> bool:
    """Whether one class takes almost all clean predictions: such a run is reported, never averaged in silently."""
    clean = metrics[metrics["attack"] == "clean"]
    return bool(clean["predicted"].max() > COLLAPSED_ABOVE * clean["predicted"].sum())
