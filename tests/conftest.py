import pytest
from hypothesis import settings

from srat_utils.devices import cpu_threads

settings.register_profile("course", deadline=None)  # a busy machine is not a failure
settings.load_profile("course")


@pytest.fixture(scope="module")
def one_thread():
    """Networks this small only wait for a second thread."""
    with cpu_threads("small-cnn"):
        yield
