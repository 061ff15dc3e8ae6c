"""Every exercise accepts what is right, the notebooks' own solutions too, and knows each mistake of its table."""

import ast
import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from inspect import signature
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srat_utils.attacks import pgd
from srat_utils.course import theory
from srat_utils.course.exercises import EXERCISES, check, fault, plain, straight_through, verdict
from srat_utils.losses import feature_separation
from srat_utils.weights import effective_number

OPEN = "Not answered yet: replace the `raise NotImplementedError` by your code."


def said(capsys, name, answer):
    """What the check prints: one line, and "Right." if and only if it returns True."""
    right = check(name, answer)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert right == (printed == "Right.\n")
    return printed.strip()


def two_errors(differences):
    """The rule of thumb that takes Student's quantile for 2."""
    error = np.std(differences, ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else np.inf
    return "undecided" if abs(np.mean(differences)) <= 2 * error else "up" if np.mean(differences) > 0 else "down"


@cache
def course() -> list:
    """Of every exercise cell: notebook, name of the exercise, name of the function, the cell, the solution folded below."""
    found = []
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell, below in pairwise(nbformat.read(path, as_version=4).cells):
            for name, function in re.findall(r'exercises\.check\("(\w+)", (\w+)\)', cell.source):
                solution = re.search(r"<details>.*?```python\n(.*?)```.*?</details>", below.source, flags=re.S)
                found.append((path, name, function, cell, solution and solution[1]))
    return found


@cache
def importing(path: Path) -> dict:
    """The names that a notebook imports and the functions that it defines: nothing is trained."""
    cells = nbformat.read(path, as_version=4).cells
    cells = [cell.source for cell in cells if cell.cell_type == "code" and cell.id != "colab"]  # which is not Python
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    body = [node for node in ast.parse("\n".join(cells)).body if isinstance(node, kept)]
    exec(compile(ast.Module(body, []), path.name, "exec"), names := {})
    return names


def test_the_notebooks_and_the_table_have_the_same_exercises():
    assert {name for _, name, *_ in course()} == set(EXERCISES)


@pytest.mark.parametrize("exercise", course(), ids=lambda exercise: exercise[1])
def test_the_folded_solution_is_right_and_the_cell_above_it_still_open(exercise, capsys):
    path, name, function, cell, solution = exercise
    names = dict(importing(path))
    exec(cell.source, names)
    assert capsys.readouterr().out == cell.outputs[0].text == OPEN + "\n"
    parameters = list(signature(names[function]).parameters)
    assert parameters == list(signature(EXERCISES[name].reference).parameters)[: len(parameters)]
    exec(solution, names)
    assert list(signature(names[function]).parameters) == parameters
    assert said(capsys, name, names[function]) == "Right."


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_is_right(name, capsys):
    assert said(capsys, name, EXERCISES[name].reference) == "Right."


def mistakes(name, case):
    return list(EXERCISES[name].mistakes(plain(EXERCISES[name].reference(*deepcopy(case))), *case).items())


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, exercise in EXERCISES.items() for place in range(len(mistakes(name, exercise.cases[0])))],
)
def test_a_mistake_is_told_from_the_right_answer_and_from_every_other_mistake(name, place, capsys):
    words = []

    def mistaken(*case):
        say, result = mistakes(name, case)[place]
        words.append(say)
        return result

    assert said(capsys, name, mistaken) == f"Not yet: {words[-1]}"


def leaves_gradients(model, images, labels, attack):
    adversarial = pgd(model, images, labels, attack)
    F.cross_entropy(model.eval()(adversarial), labels).backward()
    model.train()
    return adversarial


OTHERS = [
    ("projection", lambda a, x, e: a.clamp(0, 1), "leaves the ε-ball by 0.3"),
    ("projection", lambda a, x, e: a.clamp(x - e, x + e), "pixels reach from -0.10 to 1.05"),
    ("projection", lambda a, x, e: (x + e * (a - x).sign()).clamp(0, 1), "in both already"),
    ("projection", lambda a, x, e: torch.where((a - x).abs() <= e, a, x), "not the nearest"),
    ("projection", lambda a, x, e: a * torch.nan, "pixels reach from nan"),
    ("pgd", lambda *case: pgd(*case, training=True), "train mode"),
    ("pgd", lambda model, *case: pgd(model.eval(), *case), "is not afterwards"),
    ("pgd", leaves_gradients, "gradients in the parameters"),
    ("pgd", lambda m, x, y, a: x + a.eps * torch.sign(pgd(m, x, y, a) - x + 1e-9), "to 1.10; they must stay in [0, 1]"),
    ("pgd", lambda m, x, y, a: x + 3 * (pgd(m, x, y, a) - x), "leaves the ε-ball by 0.2"),
    ("pgd", lambda *case: pgd(*case, loss=lambda *pair: -F.cross_entropy(*pair)), "loss went down"),
    ("pgd", lambda m, x, y, a: x, "loss went down by 0:"),
    ("pgd", lambda m, x, y, a: x[:1], "shape (32, 1, 4, 4), not (1, 1, 4, 4)"),
    ("retrain", lambda config, seed: 50.0, "train the settings that you are given, with the seed"),
    ("literal_counts", lambda own, K: own, "the last class must have its own count / K = 5 images, not 50"),
    ("literal_counts", lambda own, K: [int(n * K ** (-(i + 1) / 4)) for i, n in enumerate(own)], "must keep all its 100"),
    ("literal_counts", lambda own, K: [round(n * K ** (-i / (len(own) - 1))) for i, n in enumerate(own)], "46 images, not 47"),
    ("worst_case", lambda p, y, C: 100 * (p == y).all(0).mean(), "one number per class: shape (2,), not ()"),
    ("worst_case", lambda p, y, C: torch.tensor([50, 50]), "Right."),
    ("break_even", lambda r, a, b: 70, "70 was not run; choose one of [1, 10, 50, 200]"),
    ("break_even", lambda r, a, b: r[0], "at 1 they are 99 points apart; at 50 only 10"),
    ("plain_factor", lambda w: 3.5, "for w=[1, 1, 1, 9] it should be 3, not 3.5"),
    ("interval", lambda k, n: [100 * k / n - 1, 100 * k / n + 1], "81 of 100 images say less than that"),
    ("class_balanced", effective_number, "rarest class"),
    ("class_balanced", lambda n, b: 1 / effective_number(n, b) * 100, "not to C = 3"),
    ("feature_separation", lambda z, y, t: feature_separation(z, y, t / z.norm(dim=1).max() ** 2), "normalise"),
    ("eps_of_cost", lambda eta, *rest: 2 * eta, "between 0 and η = 1.0, not at 2.000"),
    ("eps_of_cost", lambda *case: 0.0, "reweighting costs 1.77 points, not 5"),
    ("eps_of_cost", lambda *case: theory.eps_of_cost(*case[:4]), "points, not 10"),
    ("diagnosis", lambda letter: "ε = 1", "network A stands at ε = 1 because something stops"),
    ("diagnosis", lambda letter: "random network", "it is not 'random network' for network B: look at its gradient"),
    ("break_rounding", lambda m, x, y, a: x + 3 * (straight_through(m, x, y, a) - x), "leaves the ε-ball by 0.2"),
    ("break_rounding", lambda m, x, y, a: x, "32 of 32 images still stand, and 15 need: the gradient through the"),
    ("break_rounding", lambda m, x, y, a: straight_through(m, x, y, replace(a, steps=3)), "take every step uphill"),
    ("impossible", lambda rows, images: "E", "there is no row 'E'"),
    ("impossible", lambda rows, images: "A", "of 50 images, 72, 46, 44 % can be; look again"),
    ("verdict", lambda d: verdict(d) if len(d) else "undecided", "nothing was measured"),
    ("verdict", lambda d: "up" if len(d) else "not measured", "decides nothing: undecided, not 'up'"),
    ("verdict", lambda d: two_errors(d) if len(d) else "not measured", "Student's t asks for 4.30"),
    ("verdict", lambda d: verdict(np.repeat(d, 9) if len(d) > 1 else d), "has mean 1.17 and standard error 1.48"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "words"), OTHERS)
def test_an_answer_that_is_no_listed_mistake_is_told_what_it_lacks(name, answer, words, capsys):
    assert words in said(capsys, name, answer)


@pytest.mark.parametrize(("name", "place"), [(n, i) for n, e in EXERCISES.items() for i in range(len(e.demands))])
def test_every_demand_speaks_for_some_answer_above(name, place):
    demands = list(EXERCISES[name].demands)
    demands[place] = lambda *case, demand=demands[place]: demand(*case) and "this one"
    answers = [answer for other, answer, _ in OTHERS if other == name]
    assert "this one" in [fault(replace(EXERCISES[name], demands=demands), answer) for answer in answers]


@pytest.mark.parametrize("name", EXERCISES)
def test_no_answer_makes_the_check_raise(name, capsys):
    def raises(*case):
        raise ValueError("two\nlines")

    assert said(capsys, name, raises) == "Not yet: your function raised ValueError: two lines"
    assert "TypeError" in said(capsys, name, lambda: 0)
    for result in (None, {}, [[1], [2, 3]], [None, None], raises):
        words = f"Not yet: return {EXERCISES[name].returns}, not {type(result).__name__}"
        assert said(capsys, name, lambda *case, result=result: result) == words
    for result in (torch.ones(7, 3), [], "word"):
        assert said(capsys, name, lambda *case, result=result: result).startswith("Not yet: ")


@pytest.mark.parametrize("name", [n for n, e in EXERCISES.items() if any(np.size(plain(a)) > 1 for a in e.cases[-1])])
def test_an_answer_that_writes_into_its_arguments_is_told_so_and_spoils_nothing(name, capsys):
    def spoils(*case):
        result = EXERCISES[name].reference(*case)
        for argument in case:
            if isinstance(argument, list):
                argument.append(1)
            elif isinstance(argument, (torch.Tensor, np.ndarray)):
                argument += 1
        return result

    assert "it writes into its argument" in said(capsys, name, spoils)
    assert said(capsys, name, EXERCISES[name].reference) == "Right."


def test_an_unknown_exercise_names_the_nearest(capsys):
    assert said(capsys, "PGDs", pgd) == "There is no exercise 'PGDs'; did you mean pgd?"
