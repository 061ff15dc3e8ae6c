"""Notebook 08's false networks are false in the way they are said to be."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import build
from torch import nn

from srat_utils.attacks import frozen
from srat_utils.course import trust
from srat_utils.models import ConvNorm


@pytest.fixture
def images():
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_scaled_logits_give_the_same_answers(images):
    model = build("small-cnn", 1, 10).eval()
    with torch.no_grad():
        assert torch.equal(trust.scaled(model, 0.01)(images).argmax(1), model(images).argmax(1))
        assert torch.allclose(trust.scaled(model, 8)(images), 8 * model(images))


@pytest.mark.parametrize("architecture", ["small-cnn", "resnet18"])
def test_with_batch_statistics_neighbours_matter_even_in_eval_mode_and_when_frozen(architecture, images):
    model = build(architecture, 1, 10).eval()
    loose = trust.with_batch_statistics(model)
    assert not any(isinstance(layer, ConvNorm) for layer in loose.modules())
    with torch.no_grad(), frozen(loose):
        assert not torch.allclose(loose(images)[:3], loose(images[:3]), atol=1e-4)
    with torch.no_grad(), frozen(model):
        assert torch.allclose(model(images)[:3], model(images[:3]), atol=1e-4)
    assert any(isinstance(layer, ConvNorm) for layer in model.modules())


def test_batch_statistics_are_those_of_train_mode(images):
    model = build("small-cnn", 1, 10)
    loose = trust.with_batch_statistics(model).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
    with torch.no_grad():
        assert torch.allclose(model.train()(images), loose(images), atol=1e-5)


def test_pictures_tell_their_numbers():
    table = pd.DataFrame({"PGD-20": [90.0, 40.0], "STRONG": [90.0, 20.0]}, index=[0.0, 0.2])
    assert "PGD-20: 40 %; STRONG: 20 %" in trust.curves(table, "ε", x="ε", mark=0.2).alt
    assert "CE from 60 to 20 %" in trust.ladder({"CE": {"PGD-10": 60.0, "targeted": 20.0}}, "test").alt
    before, after = pd.Series({"CE": 3.0, "LDAM": 2.0}), pd.Series({"CE": 1.0, "LDAM": 1.5})
    picture = trust.rank_change(before, after, ("PGD-20", "STRONG"), "digits")
    assert "2 of 2 methods change places" in picture.alt and len(picture.png()) > 1000


def test_names_that_stand_side_by_side_do_not_cover_each_other():
    places = trust._apart(pd.Series([1.0, 1.01, 1.02, 9.0], index=list("abcd")))
    assert (np.diff(places) > 0.5).all() and places.index.tolist() == list("abcd")
