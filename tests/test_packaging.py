"""What an installation brings: no more than the science imports, each version written once, one address."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import settings
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCIENCE = [path for path in (ROOT / "srat_utils").rglob("*.py") if "course" not in path.parts]
DOCS = ("installing", "findings", "many-runs", "teaching", "questions", "errata", "settings")
COURSE = [*(ROOT / "srat_utils/course").glob("*.py")]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def required(path: str) -> list[str]:
    """The names that a requirements file itself asks for, without those behind its `-r` lines."""
    lines = [line.split(" #")[0].strip() for line in text(path).splitlines()]
    return [canonicalize_name(Requirement(line).name) for line in lines if line and line[0] not in "#-"]


def imported(paths: list[Path]) -> set[str]:
    """The distributions whose modules these files import."""
    modules = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.split(".")[0])
    known = packages_distributions()
    outside = modules - set(sys.stdlib_module_names) - {"srat_utils"}
    return {canonicalize_name(name) for module in outside for name in known[module]}


def test_the_package_requires_what_the_science_imports_and_nothing_else():
    assert set(required("requirements/science.txt")) == imported(SCIENCE)


def test_the_course_requires_what_it_imports_as_well():
    brought_by_ipywidgets = {"ipython"}
    own = imported(COURSE) - set(required("requirements/science.txt")) - brought_by_ipywidgets
    assert set(required("requirements/course.txt")) == own


def test_the_science_works_without_what_the_course_requires(tmp_path):
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SCIENCE]
    program = f"""
import importlib, sys
for name in ("matplotlib", "ipywidgets", "IPython", "resvg_py", "jupyterlab", "papermill", "nbformat", "distributed"):
    sys.modules[name] = None  # an import raises ModuleNotFoundError
for name in {modules}:
    importlib.import_module(name)
from srat_utils import Config, train
print(train(Config(dataset="digits", imbalance="step-5", max_per_class=5, epochs=1)).summary())
"""
    own = os.environ | {"SRAT_RUNS": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "robust" in done.stdout


def test_each_requirement_is_written_once():
    files = [
        *(ROOT / "requirements").glob("*.txt"),
        *(ROOT / name for name in ("requirements.txt", "ci/requirements.txt")),
    ]
    names = [name for path in files for name in required(path.relative_to(ROOT).as_posix())]
    assert len(names) == len(set(names))
    assert not required("requirements.txt") and not required(".binder/requirements.txt")


def test_what_the_course_installs_is_the_package_with_its_extra():
    setuptools = tomllib.loads(text("pyproject.toml"))["tool"]["setuptools"]["dynamic"]
    files = setuptools["dependencies"]["file"] + setuptools["optional-dependencies"]["course"]["file"]
    assert re.findall(r"^-r (.+)$", text("requirements.txt"), flags=re.MULTILINE) == files
    listed = yaml.safe_load(text("environment.yml"))["dependencies"][-1]["pip"]
    assert listed == ["-r requirements.txt", "-e ."]


@pytest.mark.parametrize(
    "path, pattern",
    [
        ("Makefile", r"version_info < \((\d, \d+)\)"),
        ("README.md", r"Python (\d\.\d+) or newer"),
        ("docs/installing.md", r"Python (\d\.\d+) or newer"),
        ("environment.yml", r"python>=(\d\.\d+)"),
    ],
)
def test_the_oldest_python_is_the_same_everywhere(path, pattern):
    found = re.findall(pattern, text(path))
    assert found
    assert {version.replace(", ", ".") for version in found} == {PROJECT["requires-python"].removeprefix(">=")}


def test_version_and_authors_are_those_of_the_citation():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


def test_no_other_address_of_this_repository_is_written():
    """A fork changes one line, and this test names what must follow."""
    owner, name = PROJECT["urls"]["Repository"].removeprefix("https://github.com/").split("/")
    ours = rf"(?:github\.com|v2/gh|blob/colab|com/github)/([\w.-]+/{name})\b|//([\w.-]+)\.github\.io/{name}\b"
    for path in ("README.md", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", *(
        found.relative_to(ROOT).as_posix() for found in (ROOT / "docs").rglob("*.md"))):  # fmt: skip
        for slug, host in re.findall(ours, text(path) if (ROOT / path).exists() else ""):
            assert slug in ("", f"{owner}/{name}") and host in ("", owner.lower(), owner), path


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm and its shell are not found on Windows")
@pytest.mark.parametrize("path", sorted((ROOT / "docs/slurm").glob("*.sbatch")), ids=lambda path: path.name)
def test_a_job_file_is_one_that_bash_and_slurm_can_read(path):
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text(encoding="utf-8").splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert lines[0] == "#!/bin/bash" and all(line.startswith("#") for line in lines[:last])  # Slurm stops at a command
    inside = re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for program in inside:
        ast.parse(program)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_names_only_what_is_there(path):
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert read["name"] and read[True]  # YAML 1.1 reads the key `on` as true
    steps = [step for job in read["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    targets = set(re.findall(r"^([\w./-]+):", text("Makefile"), flags=re.MULTILINE))
    for step in steps:
        for command in re.findall(r"^\s*make ([^#\n]+)$", step.get("run", ""), flags=re.MULTILINE):
            assert {word for word in command.split() if "=" not in word} <= targets, command
        for file in re.findall(r"(?<=[ \"])(?:ci|requirements)/[\w/.-]+", step.get("run", "")):
            assert (ROOT / file).exists(), file


def test_the_oldest_python_with_the_lowest_versions_is_tested_every_week():
    workflow = yaml.safe_load(text(".github/workflows/test.yml"))
    assert workflow[True]["schedule"]
    listed = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert {row["os"].split("-")[0] for row in listed} == {"ubuntu", "macos", "windows"}
    oldest = [row for row in listed if row["versions"] == "lowest"]
    assert oldest and all(row["python"] == PROJECT["requires-python"].removeprefix(">=") for row in oldest)


def test_the_changelog_begins_with_this_version():
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), flags=re.MULTILINE)[1] == PROJECT["version"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name)
def test_an_issue_form_has_what_the_form_needs(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"] and form["body"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in asked)
    assert len({field["id"] for field in asked}) == len(asked)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{name}.md" for name in DOCS)]
)
def test_a_page_names_files_that_are_there(page):
    linked = re.findall(r"\]\(((?!https?:|#)[^)#]+)", text(page))
    named = re.findall(r"`((?:srat_utils|tests|ci|notebooks|docs|requirements|benchmarks)/[\w./]+\.\w+)`", text(page))
    lost = [path for path in linked if not (ROOT / page).parent.joinpath(path).exists()]
    assert lost + [path for path in named if "NN_name" not in path and not (ROOT / path).exists()] == []


def test_the_page_of_settings_is_what_the_code_says():
    assert text("docs/settings.md") == settings.page(), "python ci/settings.py writes it again"
    known = {*settings.Config().to_dict()} - {"source"}
    listed = {line.split("`")[1] for line in text("docs/settings.md").splitlines() if line.startswith("| `")}
    assert known <= listed
