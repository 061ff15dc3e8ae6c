"""What notebook 08 draws says what was measured."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import build
from torch.nn import functional as F

from srat_utils.attacks import PGD, pgd
from srat_utils.course import trust

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("scale", "moves", "fools"), [(0.01, True, False), (1.0, True, True), (100.0, False, False)])
def test_the_first_picture_shows_a_real_attack_on_one_network(scale, moves, fools):
    points = trust.way(scale, PGD(0.2, 0.03, 10))
    assert np.abs(points - 0.5).max() <= 0.2 + 1e-6
    assert (np.ptp(points, axis=0) > 0).all() == moves
    assert (trust.Plane()(torch.tensor(points[-1]).view(1, 1, 1, 2)).argmax().item() != 0) == fools


def test_the_first_picture_says_how_each_attack_ends():
    alt = trust.three_scales().alt
    assert "× 0.01 it does not fool; × 1 it fools; × 100 it does not move" in alt


def test_across_scales_is_the_attack_recomputed_and_the_softmax_over_wrong_classes():
    model = build("small-cnn", 1, 10).eval()
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = PGD(0.05, 0.02, 5)
    table, pulls = trust.across_scales(model, x, y, attack, [1.0, 1e5])
    by_hand = pgd(
        model, x, y, attack, loss=lambda z, y: F.cross_entropy(z, y), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        assert table.loc[1.0, "cross-entropy"] == pytest.approx(
            100 * float((model(by_hand).argmax(1) == y).float().mean())
        )
        z = model(x).numpy()
    q = [
        np.sort(np.exp(np.delete(row, c)) / np.exp(np.delete(row, c)).sum())[::-1] for row, c in zip(z, y, strict=True)
    ]
    assert pulls[1.0] == pytest.approx(np.mean(q, axis=0), rel=1e-4)
    assert pulls[1e5][0] > 0.95 and table.loc[1e5, "still"] > 50 and table.loc[1.0, "still"] == 0
    assert (table["union"] <= table[["cross-entropy", "margin"]].min().min()).all()


def test_pictures_tell_their_numbers():
    left = pd.DataFrame({"all classes": [90.0, 40.0], "rare classes": [80.0, 5.0]}, ["clean", "PGD-20"])
    assert "CE, rare classes: 80.0 → 5.0" in trust.ladder({"CE": left}, "test").alt
    measured = pd.DataFrame({"cross-entropy": [62.0], "margin": [53.0], "still": [7.0], "union": [50.0]}, [0.1])
    said = trust.scale_explorer(measured, {0.1: np.full(9, 1 / 9)}, 0.1, "CE").alt
    assert "× 0.1: 62.0 % stand" in said and "53.0 % on the margin" in said and "7 % of the images have no" in said
    curves = {"sound": pd.Series({0.0: 90.0, 0.2: 40.0}), "false": pd.Series({0.0: 90.0, 0.2: 85.0})}
    image = np.zeros((1, 8, 8), np.float32)
    picture = trust.budget_explorer(curves, dict.fromkeys(curves, image), {"sound": "3", "false": "8"}, 0.2)
    assert picture.alt == "At ε = 0.2: sound 40 %, reads 3; false 85 %, reads 8."
    right = np.array([[True, False, True, True], [True, True, True, True], [False, False, True, False]])
    halves = pd.DataFrame({"same half": [60.0, 62.0], "other half": [58.0, 61.0]})
    said = trust.chosen_on_test(right, [1, 2, 3], halves).alt
    assert "on test 100.0 %, last epoch 25.0 %" in said and "+1.5 points" in said


def test_slopes_count_the_methods_that_change_their_rank():
    table = pd.DataFrame({"PGD-20": [20.0, 19.0, 3.0], "STRONG": [10.0, 12.0, 1.0]}, ["CE", "LDAM", "Focal"])
    picture = trust.slopes({"step": table, "exp": table[::-1]}, {"CE": "CE", "LDAM": "LDAM", "Focal": "Focal"})
    assert "step: 2 of 3 methods change their rank; exp: 2 of 3" in picture.alt
    assert len(picture.png()) > 1000


@pytest.mark.parametrize("heights", [[1.0, 1.01, 1.02, 9.0], [5.0], [0.0, 0.0, 0.0], [1.0, 2.0, 2.1, 2.9, 3.0]])
def test_names_that_stand_side_by_side_do_not_cover_each_other(heights):
    placed = trust.spaced(np.array(heights), 0.8)
    assert (np.diff(placed) >= 0.8 - 1e-9).all()
    assert placed.mean() == pytest.approx(np.mean(heights))
    assert trust.spaced(np.array([1.0, 9.0]), 0.8).tolist() == [1.0, 9.0]
