"""Finished runs to export."""

import numpy as np
import pytest
from finished_runs import HOSTILE, MadeRun, blobs


@pytest.fixture
def make_run(tmp_path):
    def make(names=("sky", "road", "car"), **options):
        return MadeRun(tmp_path, names, **options)

    return make


@pytest.fixture
def run(make_run):
    """Two photos of one name in two folders, odd names, a class that never occurs."""
    made = make_run(HOSTILE)
    made.add("a", blobs(seed=1, classes=6))
    made.add("deep er/a", blobs((64, 200), seed=2, classes=6), name="deep er/a.jpg")
    made.add("été/天空 #1", blobs((50, 40), seed=3, classes=6), name="été/天空 #1.png")
    return made


@pytest.fixture
def huge_vocabulary(make_run):
    """More classes than 8 bits hold, most of them in one photo."""
    made = make_run([f"class {i}" for i in range(847)])
    labels = np.random.default_rng(0).integers(-1, 847, (30, 40)).astype(np.int32)
    return made.add("a", labels.repeat(4, axis=0).repeat(4, axis=1))
