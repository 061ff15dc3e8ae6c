"""What is under version control is for readers: small, and named so that every shell can take it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = (".npz", ".pt", ".safetensors", ".xz", ".gz", ".zip")


def findings(sizes: dict[str, int]) -> list[str]:
    """What is wrong with tracked files.  sizes: path → bytes."""
    found = []
    for path, size in sizes.items():
        if size > 1_500_000:
            found.append(f"{path}: {size / 1e6:.1f} MB, and 1.5 MB is the limit")
        if any(part.startswith("-") for part in Path(path).parts):
            found.append(f"{path}: a name that begins with - is an option to every command")
        if path.endswith(ARCHIVES) and (Path(path).parts[0] not in ("results", "srat_utils") or size > 300_000):
            found.append(f"{path}: an archive belongs into results/ or srat_utils/, at most 300 kB of it")
    return found


def tracked() -> list[str]:
    command = ["git", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for path in listed.split("\0") if path]


def test_every_tracked_file_is_small_and_in_its_place():
    assert findings({path: (ROOT / path).stat().st_size for path in tracked() if (ROOT / path).is_file()}) == []


@pytest.mark.parametrize(
    "path", ["--help.npz", "results/-x.csv", "data/cifar10.npz", "weights.pt", "tests/images.tar.gz", "a.xz"]
)
def test_a_stray_file_is_found(path):
    assert findings({path: 10})


def test_a_large_file_is_found_wherever_it_lies():
    assert findings({"notebooks/a.ipynb": 1_500_001}) and findings({"results/digits/features.npz": 300_001})
    assert not findings({"notebooks/a.ipynb": 1_499_999, "results/digits/features.npz": 299_999})


def test_data_weights_and_logs_are_ignored_by_git():
    if not tracked():
        pytest.skip("not a git checkout")
    for path in ("x.npz", "notebooks/x.pt", "x.log", "tests/x.xz"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0, path
