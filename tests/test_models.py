"""The two networks: shapes, the cosine head with its scale inside, initial weights from the seed alone."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import build

from srat_utils import losses
from srat_utils.attacks import PGD, pgd
from srat_utils.models import ConvNorm, CosineHead, folded


def images(number=4, channels=3, size=32, seed=0):
    return torch.rand(number, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("architecture", "width"), [("small-cnn", 64), ("resnet8", 128), ("resnet18", 512)])
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 8, 2), (3, 32, 10), (4, 17, 3)])
def test_any_channels_size_and_classes_give_logits_and_features(architecture, width, channels, size, classes):
    model, x = build(architecture, channels, classes).eval(), images(2, channels, size)
    with torch.no_grad():
        logits, features = model.logits_and_features(x)
        assert logits.shape == (2, classes) and features.shape == (2, width)
        assert torch.equal(logits, model(x)) and torch.equal(features, model.features(x))
        assert torch.equal(model.head(features), logits)


def test_resnet18_has_the_blocks_of_torchvisions_with_a_cifar_stem():
    ours, theirs = build("resnet18", 3, 10), torchvision.models.resnet18(num_classes=10)
    stem = 64 * 3 * 7 * 7 - 64 * 3 * 3 * 3
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) - stem


def test_resnet18_computes_what_torchvisions_does_with_its_stem_changed():
    ours, theirs = build("resnet18", 3, 10).eval(), torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    theirs.eval()
    # Both list, block by block, the two convolutions with their norms and then the shortcut.
    renamed = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(renamed)
    with torch.no_grad():
        torch.testing.assert_close(ours(images(2)), theirs(images(2)))


def test_cosine_logits_fill_the_range_of_the_scale_and_not_of_a_bare_cosine():
    head = CosineHead(3, 2, scale=30.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0, 0], [0, 0.1, 0]]))
    features = torch.tensor([[7.0, 0, 0], [-1.0, 0, 0], [3.0, 4.0, 0]])
    expected = torch.tensor([[30.0, 0], [-30.0, 0], [18.0, 24.0]])
    torch.testing.assert_close(head(features), expected)


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0])
def test_cosine_logits_never_leave_minus_scale_to_scale(scale):
    model = build("small-cnn", 1, 10, scale=scale).eval()
    with torch.no_grad():
        logits = model(images(64, 1, 8))
    assert logits.abs().max() <= scale * (1 + 1e-5)
    assert logits.abs().max() > scale / 20
    assert not any(name == "head.bias" for name, _ in model.named_parameters())


def test_the_attack_meets_the_softmax_that_ldam_trains():
    # Without margins LDAM's loss is cross-entropy of the model's own logits: nothing is scaled afterwards.
    model, x, y = build("small-cnn", 1, 4, scale=30.0).eval(), images(8, 1, 8), torch.arange(8) % 4
    attack = PGD(0.1, 0.025, 5, "zero")
    plain = pgd(model, x, y, attack)
    trained_loss = pgd(model, x, y, attack, loss=lambda logits, labels: losses.ldam(logits, labels, torch.zeros(4)))
    assert torch.equal(plain, trained_loss)
    assert F.cross_entropy(model(plain), y) > F.cross_entropy(model(x), y)


def test_projection_is_the_identity_unless_a_width_is_asked_for():
    features = torch.randn(3, 64)
    assert build("small-cnn", 1, 2).projection(features) is features
    assert build("small-cnn", 1, 2, projection=128).projection(features).shape == (3, 128)


def test_projection_does_not_write_into_the_features():
    features = torch.randn(3, 64)
    before = features.clone()
    build("small-cnn", 1, 2, projection=16).projection(features)
    assert torch.equal(features, before)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = build("small-cnn", 1, 10, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = build("small-cnn", 1, 10, seed=5).state_dict(), build("small-cnn", 1, 10, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_building_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    build("small-cnn", 1, 10, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_input_scale_lives_in_pixels_so_no_normalisation_precedes_the_first_convolution():
    model = build("small-cnn", 3, 2)
    convolution = model.body[0][0][0]
    assert torch.equal(convolution(images()), F.conv2d(images(), convolution.weight, padding=1))


@pytest.mark.parametrize(("architecture", "side"), [("small-cnn", 8), ("resnet8", 32), ("resnet18", 16)])
def test_a_batch_of_one_can_be_trained_on(architecture, side):
    model = build(architecture, 1, 10).train()
    model(images(1, 1, side)).sum().backward()


@pytest.mark.parametrize(("architecture", "side"), [("small-cnn", 8), ("resnet8", 32), ("resnet18", 16)])
def test_folded_batch_norms_change_logits_and_image_gradients_by_rounding_only(architecture, side):
    model = build(architecture, 3, 10).train()
    for _ in range(3):
        model(images(16, 3, side) * 3)  # running statistics that are neither 0 nor 1
    model.eval()
    x = images(4, 3, side).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
    with folded(model):
        (gradient,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
        torch.testing.assert_close(model(x), build_unfolded(model)(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def build_unfolded(model):
    """An independent copy whose ConvNorms are plain sequences."""
    copy = deepcopy(model)
    for module in copy.modules():
        if isinstance(module, ConvNorm):
            module.constant = None
    return copy


@pytest.mark.parametrize(
    ("architecture", "scale"), [("small-cnn", None), ("small-cnn", 30.0), ("resnet8", 30.0), ("resnet18", 30.0)]
)
def test_at_lower_precision_the_body_alone_is_in_bfloat16(architecture, scale):
    model, x = build(architecture, 3, 5, scale=scale).eval(), images(size=16)
    expected, _ = model.logits_and_features(x)
    seen = []
    model.body[0][0][0].register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    model.precision = "bf16"
    logits, features = model.logits_and_features(x)
    with folded(model):
        folded_logits = model(x)
        assert {layer.dtype for layer in model.body[0][0].constant} == {torch.bfloat16}
    assert seen == [torch.bfloat16] and logits.dtype == features.dtype == folded_logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=0.05 * expected.abs().max().item() + 0.05)
    assert torch.allclose(folded_logits, expected, atol=0.05 * expected.abs().max().item() + 0.05)


def test_after_folding_the_model_trains_as_before_and_uses_its_new_weights():
    model, twin = build("small-cnn", 1, 10), build("small-cnn", 1, 10)
    with pytest.raises(RuntimeError, match="inside"), folded(model.eval()):
        raise RuntimeError("inside")
    for network in (model, twin):
        network.train()
        F.cross_entropy(network(images(8, 1, 8)), torch.arange(8)).backward()
    for ours, plain in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, plain.grad)
    before = model.eval()(images(2, 1, 8))
    with torch.no_grad():
        model.body[0][0][0].weight.mul_(2)
        model.body[0][0][1].bias.add_(1)
    with folded(model):
        assert not torch.allclose(model(images(2, 1, 8)), before)


def test_nothing_inside_folding_reaches_a_parameter_of_a_folded_layer():
    model = build("small-cnn", 1, 10).eval()
    with folded(model):
        model(images(2, 1, 8)).sum().backward()
    assert all(p.grad is None for m in model.modules() if isinstance(m, ConvNorm) for p in m.parameters())


def test_predicting_leaves_every_module_in_its_own_mode():
    model = build("small-cnn", 1, 10).train()
    fixed = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    model.predict(np.zeros((2, 8, 8), np.uint8))
    assert model.training and not fixed.training and model.head.training
