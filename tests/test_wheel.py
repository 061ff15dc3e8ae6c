"""The wheel alone, in an environment of its own inside somebody else's repository: from a folder of pictures to a model."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from made_up import picture_folder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
FIRST = """
import json
import srat_utils
from srat_utils import Config, plan, sources, store, train
from srat_utils.course import claims, paper  # whose tables travel with it
config = Config("pets", epochs=2, batch_size=4, attack_steps=2, evaluation_steps=2)
print(plan(config))
run = train(config)
folder = run.export("model")
names, probabilities = run.predict(["pets/test/cat/0.png", "pets/test/dog/1.png"])
json.dump({
    "package": srat_utils.__file__, "store": str(store.default_store()), "data": str(sources.data_folders()[0]),
    "run": str(run.folder), "commit": run.provenance["commit"], "names": names.tolist(),
    "probabilities": probabilities.tolist(), "files": sorted(path.name for path in folder.iterdir()),
}, open("said.json", "w"))
"""
AGAIN = """
import json
from srat_utils import load, runs
said = json.load(open("said.json"))
names, probabilities = load("model").predict(["new/a.png", "new/b.png"])
assert names.tolist() == said["names"], (names, said)
assert abs(probabilities - said["probabilities"]).max() < 1e-5
assert runs.read(said["run"]).confusion("robust").to_numpy().sum() == 4
"""


def python(environment):
    return next(
        path for path in (environment / "bin" / "python", environment / "Scripts" / "python.exe") if path.exists()
    )


def asked(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def theirs(tmp_path):
    """A folder of somebody's own, a git repository where there is git."""
    here = tmp_path / "somebody else's"
    here.mkdir()
    if shutil.which("git"):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        asked("git", "init", "-q", cwd=here)
        asked("git", *author, "commit", "-q", "--allow-empty", "-m", "theirs", cwd=here)
    return here


@pytest.fixture
def installed(theirs, tmp_path):
    """Python of an environment inside that folder, which has the wheel, and all of this environment but the project itself."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "srat_utils", source / "srat_utils", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    asked(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, source)
    shutil.rmtree(source)
    environment = theirs / "environment"
    venv.create(environment, with_pip=False)
    own = Path(asked(python(environment), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    asked(*pip, "install", "--no-deps", "--no-index", "--target", own, next(tmp_path.glob("srat_utils-*.whl")))
    # A folder that a .pth names is searched last, and the .pth files inside it, an editable install's, are not read.
    (own / "the_rest.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return python(environment)


def test_the_wheel_alone_goes_from_a_folder_of_pictures_to_a_model_that_is_read_without_them(installed, theirs):
    picture_folder(theirs / "pets")
    users = {name: str(theirs / "home") for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "LOCALAPPDATA")}
    env = {name: text for name, text in os.environ.items() if name[:4] not in ("SRAT", "PYTH")} | users
    asked(installed, "-c", FIRST, cwd=theirs, env=env)
    said = json.loads((theirs / "said.json").read_text())
    assert Path(said["package"]).is_relative_to(theirs / "environment") and said["commit"] is None
    assert all(Path(said[place]).is_relative_to(theirs / "home") for place in ("store", "data", "run"))
    assert said["files"] == ["card.md", "model.pt", "model.pt2", "spec.json"]
    (theirs / "new").mkdir()
    (theirs / "pets" / "test" / "cat" / "0.png").rename(theirs / "new" / "a.png")
    (theirs / "pets" / "test" / "dog" / "1.png").rename(theirs / "new" / "b.png")
    shutil.rmtree(theirs / "pets")
    asked(installed, "-c", AGAIN, cwd=theirs, env=env)
