"""A training that is killed where it is told; apart from the tests, so that a child process imports little."""

import math
import os
import signal
from collections import Counter
from pathlib import Path

from srat_utils import checkpoints, runs, trainer


def train_and_die(config, store, point, number, reached=None):
    """Train a config, and be killed the number-th time that the point is reached; else put how often each was."""
    times, fsync, replace = Counter(), os.fsync, Path.replace

    def here(name):
        times[name] += 1
        if (name, times[name]) == (point, number):
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_fsync(file):
        here("before fsync")
        fsync(file)
        here("after fsync")

    def dying_replace(path, target):
        result = replace(path, target)
        here("after rename")
        return result

    runs.SAVE_EVERY = checkpoints.BETWEEN = checkpoints.WITHIN = -1.0
    checkpoints.SHARE = math.inf
    os.fsync, Path.replace = dying_fsync, dying_replace
    trainer.train(config, store=store, progress=False, after_epoch=lambda state: here("between epochs"))
    reached.put(dict(times))
