"""Models of toy size to be timed, all in this process."""

from pathlib import Path

import pytest
import torch

from ovseg_cli.benchmark import models, one_pass, ways
from ovseg_cli.benchmark.plan import NAMES, Plan
from ovseg_cli.model.build import build
from ovseg_cli.segmenter import Model, Segmenter


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def tiny():
    """Makes a segmenter with random weights of a configuration."""

    def make(config, vocabulary=NAMES):
        torch.manual_seed(3)
        model = Model(build(config).eval(), "tiny", "ab" * 32, torch.device("cpu"), "fp32")
        return Segmenter(model, vocabulary)

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """What would get a process of its own runs here."""
    for module in (ways, models, one_pass):
        monkeypatch.setattr(module, "in_fresh_process", lambda function, *given: function(*given))


@pytest.fixture
def plan(tiny, tmp_path):
    """Makes a plan that measures a model of a configuration once."""

    def make(config, inputs: tuple[Path, ...] = ()):
        def load(vocabulary, size=None):
            return tiny(config, vocabulary)

        return Plan(load, (), "cpu", photos=2, runs=1, inputs=inputs, folder=tmp_path)

    return make
