"""A model's card and what travels with it, against intervals computed elsewhere and the network itself."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import save

from srat_utils import PAPER, STRONG, Config, cards, checks, load, train
from srat_utils.evaluation import Protocol
from srat_utils.images import DataError
from srat_utils.runs import read

TINY = Config(
    method="SRAT-LDAM", imbalance="step-5", max_per_class=30, test_per_class=40, epochs=2, attack_steps=2,
    evaluation_steps=2, rare=("0", "9"),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(TINY, store=tmp_path_factory.mktemp("store"), progress=False)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("given"), check=False, protocols=(PAPER,))


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe (1998), table I: Wilson's score interval without continuity correction.
    [
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
        (29, 29, 88.30, 100.0),
    ],
)
def test_intervals_are_wilsons(right, images, low, high):
    assert cards.interval(100 * right / images, images) == pytest.approx((low, high), abs=0.01)


def test_of_no_image_nothing_is_known():
    assert cards.interval(float("nan"), 0) == (0, 100) and cards.with_interval(float("nan"), 0) == "no image"


def test_the_program_gives_the_networks_logits_for_any_number_of_images_without_our_code(run, exported, tmp_path):
    images = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = run.model(images)
    torch.save(images, tmp_path / "images.pt")
    script = f"""
import sys, torch
sys.modules["srat_utils"] = None  # importing it would fail
images = torch.load({str(tmp_path / "images.pt")!r})
network = torch.export.load({str(exported / "model.pt2")!r}).module()
torch.save([network(images[:n]) for n in (1, 2, 7)], {str(tmp_path / "logits.pt")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    for said in torch.load(tmp_path / "logits.pt"):
        torch.testing.assert_close(said, logits[: len(said)], rtol=1e-4, atol=1e-4)


def test_making_the_program_leaves_the_network_as_it_was(run):
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.model.train()
    run.model.program()
    assert run.model.training
    run.model.eval()
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_the_card_has_every_class_under_both_protocols_with_intervals(run):
    text = run.card(check=False, protocols=(PAPER, STRONG))
    head, _, *rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert head == "| class | training images | test images | clean | paper: pgd-2@0.2 | strong: 3 attacks@0.2 |"
    clean, robust = (run.confusion(kind, STRONG) for kind in ("clean", "robust"))
    for digit, row in enumerate(rows[:10]):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == [f"{digit}{' (rare)' * (digit in (0, 9))}", str(30 if digit < 5 else 6), "40"]
        for cell, table in ((cells[3], clean), (cells[5], robust)):
            assert cell == cards.with_interval(100 * table.iloc[digit, digit] / 40, 40)
    assert rows[10].startswith("| all images | 180 | 400 | ") and rows[11].startswith("| mean over classes |")
    assert f"| {run.metrics['accuracy'][:10].mean():.1f} | {run.metrics['accuracy'][10:].mean():.1f} |" in rows[11]
    for part in (
        "small-cnn for grey pictures of 8×8 pixels",
        "adversarially (pgd-2@0.2)",
        "Rare classes: 0, 9",
        "torch.export.load",
    ):
        assert part in text


def test_the_card_has_what_the_checks_found(run, monkeypatch):
    found = [checks.Finding("larger ε", False, "accuracy 20.0 at 0.1, 30.0 at 0.2", "report the lowest")]
    monkeypatch.setattr(checks, "run", lambda *arguments, **options: found)
    text = type(run)(TINY, run.folder).card(protocols=(PAPER,))
    assert "| larger ε | fails | accuracy 20.0 at 0.1, 30.0 at 0.2 | report the lowest |" in text


def test_the_check_of_images_a_class_calls_it_by_its_name():
    trial = SimpleNamespace(
        model=SimpleNamespace(spec=SimpleNamespace(classes=("b", "a|x"))), counts=np.array([400, 12])
    )
    ok, seen = checks.images_a_class(trial)
    assert ok is None and "; class a|x, 12 images: ± " in seen
    assert "; class a\\|x, 12" in checks.table([checks.Finding("images per class", ok, seen, "")])
    trial.model = object()
    assert "; class 1, 12 images: ± " in checks.images_a_class(trial)[1]


def test_a_protocol_that_cannot_be_measured_is_named_and_the_rest_stays(run):
    def gone(config):
        raise DataError("the images have moved")

    text = run.card(check=False, protocols=(PAPER, Protocol("elsewhere", gone)))
    assert "Not measured under 'elsewhere': the images have moved." in text and "| paper: pgd-2@0.2 |" in text


def frame(clean, robust, images, predicted=None):
    names = [f"c{i}" for i in range(len(clean))]
    parts = [
        pd.DataFrame(
            {"class": names, "group": "well", "images": images, "kind": kind, "attack": kind, "accuracy": each}
        )
        for kind, each in (("clean", clean), ("robust", robust))
    ]
    return pd.concat(parts, ignore_index=True).assign(predicted=2 * list(predicted or images))


class Known:
    """Of a run, what `cards.limits` asks for."""

    config, classes = Config(), ["c0", "c1"]


def test_what_it_must_not_be_used_for_follows_the_numbers():
    sound = "\n".join(cards.limits(Known, {"paper": frame([90, 80], [80, 75], [200, 100])}))
    assert "c0, c1" in sound and "0.2" in sound
    assert not any(word in sound for word in ("hardly known", "better than a guess", "collapsed", "without one"))
    few = "\n".join(cards.limits(Known, {"paper": frame([90, 80], [80, 75], [200, 29])}))
    assert "Claims about c1: fewer than 30" in few
    # 55 of 100 may be luck where two classes are guessed at, 75 of 100 may not.
    weak = "\n".join(cards.limits(Known, {"paper": frame([90, 80], [75, 55], [100, 100])}))
    assert "Robust recognition of c1:" in weak
    collapsed = cards.limits(Known, {"paper": frame([100, 0], [100, 0], [50, 50], predicted=[100, 0])})
    assert collapsed[0].startswith("Anything: the training collapsed")


def test_natural_training_is_no_ground_to_meet_an_adversary():
    natural = type("Natural", (Known,), {"config": Config(adversarial=False)})
    assert "trained without one" in "\n".join(cards.limits(natural, {}))


def test_a_table_keeps_a_name_with_a_bar_and_a_new_line_in_its_cell():
    assert cards.markdown([["a", "b"], ["x|y\nz", 1]]) == "| a | b |\n| - | - |\n| x\\|y z | 1 |"


def test_the_most_damaging_pictures_are_those_that_fell_deepest(run):
    worst = run.most_damaging(5)
    assert len(worst) == 5 and [each.fall for each in worst] == sorted((each.fall for each in worst), reverse=True)
    test = run.data.test
    for each in worst:
        assert each.true == each.before == test.classes[test.labels[each.index]] != each.after
        np.testing.assert_array_equal(each.image, test.images[each.index].transpose(2, 0, 1) / np.float32(255))
        assert np.abs(each.attacked - each.image).max() <= 0.2 + 1e-6
        pair = torch.tensor(np.stack([each.image, each.attacked]))
        with torch.no_grad():
            p = run.model(pair).softmax(1)
        assert test.classes[p[1].argmax()] == each.after
        own = test.labels[each.index]
        assert each.fall == pytest.approx((p[0, own] - p[1, own]).item(), abs=1e-4)
    assert len(run.most_damaging(10**6)) <= int(run.confusion("clean").to_numpy().trace())


def test_where_nothing_fell_nothing_is_shown(run):
    unharmed = TINY.replace(eps=0.0, step=0.0)
    same = type(run)(unharmed, run.folder)
    assert same.most_damaging() == []
    same.path_of(PAPER).unlink()


def test_the_card_names_no_place_on_this_machine(tmp_path):
    config = Config(save(tmp_path / "mine.npz"), epochs=1, adversarial=False, evaluation_steps=1)
    text = train(config, store=tmp_path / "store", progress=False).card(check=False, protocols=(PAPER,))
    assert str(tmp_path) not in text and f"mine.npz (content {config.images})" in text


def test_a_protocol_of_another_network_has_a_clean_column_of_its_own(run):
    prior = PAPER.adjusted(1.0)
    text = run.card(check=False, protocols=(prior, PAPER))
    head = next(line for line in text.splitlines() if line.startswith("| class"))
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns[3:] == ["clean", f"{prior.name}: pgd-2@0.2", "paper: clean", "paper: pgd-2@0.2"]
    mean = next(line for line in text.splitlines() if line.startswith("| mean over classes"))
    shown = [cell.strip() for cell in mean.strip("|").split("|")]
    assert shown[3] == f"{run.summary(prior).loc['clean', 'balanced']:.1f}"
    assert shown[5] == f"{run.summary().loc['clean', 'balanced']:.1f}"


def test_an_export_with_the_prior_off_hands_on_the_adjusted_network(run, tmp_path):
    off, x = run.prior_off(0.5), torch.rand(4, run.spec.channels, *run.spec.size)
    folder = off.export(tmp_path / "given", check=False, protocols=(PAPER,))
    assert torch.equal(load(folder)(x), off.model(x)) and not torch.equal(load(folder)(x), run.model(x))
    program = torch.export.load(folder / "model.pt2").module()
    torch.testing.assert_close(program(x), off.model(x))
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "times 0.5, is taken off its logits" in card and "is taken off" not in run.card(
        check=False, protocols=(PAPER,)
    )
    mean = next(line for line in card.splitlines() if line.startswith("| mean over classes"))
    shown = [cell.strip() for cell in mean.strip("|").split("|")]
    assert shown[3:] == [f"{off.summary().loc[kind, 'balanced']:.1f}" for kind in ("clean", "robust")]


def test_what_cannot_be_measured_names_no_place_either(tmp_path):
    config = Config(save(tmp_path / "mine.npz"), epochs=1, adversarial=False, evaluation_steps=1)
    run = train(config, store=tmp_path / "store", progress=False)
    (tmp_path / "mine.npz").unlink()
    text = read(run.folder).card(protocols=(PAPER, STRONG))
    assert "Not measured under 'strong': mine.npz does not exist" in text and "Not checked: mine.npz" in text
    assert str(tmp_path) not in text


def test_a_class_that_one_of_the_attacks_takes_is_warned_of_in_any_order(run):
    def stands(shares):
        rows = [(name, "clean", 100.0, 40) for name in run.classes]
        rows += [(name, "robust", shares.get(name, 100.0), 40) for name in run.classes]
        return pd.DataFrame(rows, columns=["class", "kind", "accuracy", "images"]).assign(
            attack="own@0.1", predicted=40
        )

    weak, strong = stands({}), stands({run.classes[3]: 0.0})
    for frames in ({"weak": weak, "strong": strong}, {"strong": strong, "weak": weak}):
        (line,) = [line for line in cards.limits(run, frames) if line.startswith("Robust recognition")]
        assert run.classes[3] in line
