"""The benchmarks compare like with like, and compute the ratios they say."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import bench
import peers
from helpers import build

from srat_utils import Config, load_dataset
from srat_utils.attacks import APGD, PGD, Square, pgd

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", peers.PEERS)
def test_each_peer_does_the_same_work_as_ours(name):
    model, attack = build("small-cnn", 1, 10).eval(), PGD(0.2, 0.05, 10)
    x, y = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    try:
        run = peers.PEERS[name](model, attack)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed: make bench")
    theirs, ours = run(x, y), pgd(model, x, y, attack)
    assert (theirs - x).abs().max() <= attack.eps + 1e-6 and theirs.min() >= 0 and theirs.max() <= 1
    start, reached, ours_reached = (F.cross_entropy(model(images), y).item() for images in (x, theirs, ours))
    assert reached - start == pytest.approx(ours_reached - start, rel=0.1)


@pytest.mark.parametrize(
    "attack", [APGD(0.2, 20), APGD(0.2, 20, "dlr"), APGD(0.2, 20, "targeted", targets=2), Square(0.2, 50)]
)
def test_the_published_strong_attacks_do_the_same_work_as_ours(attack):
    model, passes = build("small-cnn", 1, 10).eval(), []
    with torch.no_grad():
        model.head.bias[3] += 100  # nothing falls
    x, y = torch.rand(16, 1, 8, 8), torch.full((16,), 3)
    try:
        run = peers.pyautoattack(model, attack)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed: make test")
    model.register_forward_hook(lambda module, inputs, _: passes.append(len(inputs[0])))
    attack(model, x, y)
    ours = len(passes)
    run(x, y)
    assert set(passes) == {16}
    assert 0 <= len(passes) - 2 * ours <= 2  # theirs looks once more for each target, or at the end


def test_ratios_are_medians_within_rounds(monkeypatch):
    seconds = {"ours": iter([1.0, 10.0, 2.0]), "theirs": iter([2.0, 30.0, 2.0])}
    work = {name: (lambda name=name: name) for name in seconds}
    monkeypatch.setattr(bench, "timed", lambda function, device: next(seconds[function()]))
    table = bench.compare(work, 3, CPU)
    assert table["milliseconds"].tolist() == [2000, 2000] and table["times ours"].tolist() == [1, 2]
    assert table.loc["theirs", ["lowest", "highest"]].tolist() == [1, 3]


def test_both_epochs_see_every_image_and_train_the_model(monkeypatch):
    config = Config(method="CB-Reweight", attack_steps=1, device="cpu", max_per_class=10)
    dataset = load_dataset("digits", imbalance="step-5", max_per_class=10).train
    bench.our_epoch(config, dataset, CPU)()
    run = bench.their_epoch(config, dataset, CPU)
    _, model, optimizer, images, _ = run.args
    before = [parameter.clone() for parameter in model.parameters()]
    seen = []
    monkeypatch.setattr(peers, "backward_loop", lambda *arguments: lambda x, y: seen.append(len(x)) or x)
    run()
    assert sum(seen) == len(images) == len(dataset)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert optimizer.state
