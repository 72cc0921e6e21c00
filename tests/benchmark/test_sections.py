"""The sections of the benchmark on models of toy size: what is counted, and how it is called."""

import os
import signal

import numpy as np
import pytest
import torch
from small_models import CLIP, PLAIN, PYRAMID, SMALL_SAN

from ovseg_cli.benchmark import batches, costs, models
from ovseg_cli.benchmark import plan as plan_module
from ovseg_cli.benchmark.batches import FullSize
from ovseg_cli.benchmark.costs import NameCounts, QueryCounts
from ovseg_cli.benchmark.fresh import in_fresh_process
from ovseg_cli.benchmark.made_up import made_up, write_photos
from ovseg_cli.benchmark.models import Ways
from ovseg_cli.benchmark.ways import once
from ovseg_cli.errors import OvsegError, UsageError
from ovseg_cli.model.label_map import label_map

TINY = {"deop": CLIP, "san": SMALL_SAN, "clip": PLAIN}


@pytest.fixture(autouse=True)
def small(monkeypatch, in_this_process):
    for module in (costs, batches):
        monkeypatch.setattr(module, "DEOP", CLIP)
    monkeypatch.setattr(models, "CONFIGS", TINY)
    monkeypatch.setattr(costs, "SIDE", 64)


def by_key(figures):
    found = list(figures)
    assert len({figure.key for figure in found}) == len(found)
    assert all(figure.value > 0 for figure in found)
    return {figure.key: figure for figure in found}


def test_cost_against_names(plan):
    found = by_key(costs.names(plan(PYRAMID), (60, 80)))
    counts = ("10", "100", "1000", "10000")
    assert set(found) == {
        *(f"names.{count}.{what}" for count in counts for what in ("seconds", "peak")),
        "names.ratio.seconds",
        "names.ratio.peak",
    }
    seconds = found["names.1000.seconds"].value / found["names.10.seconds"].value
    assert found["names.ratio.seconds"].value == seconds
    assert [found[f"names.{count}.seconds"].at for count in counts] == [10, 100, 1000, 10000]


def test_so_many_names_are_scored(plan, monkeypatch):
    seen = []

    def counted(scores, size_hw):
        seen.append((scores.channels, size_hw))
        return label_map(scores, size_hw)

    monkeypatch.setattr("ovseg_cli.benchmark.networks.label_map", counted)
    with torch.inference_mode():
        NameCounts(plan(PYRAMID).load, (30, 40))(123)()
    assert seen == [(124, (30, 40))]  # and R


def test_cost_against_masks(plan):
    found = by_key(costs.masks(plan(PYRAMID)))
    assert [figure.at for key, figure in found.items() if "seconds" in key] == [25, 50, 100, 200]
    assert all("random weights" in figure.name for figure in found.values())


def test_so_many_masks_are_found(monkeypatch):
    counts = QueryCounts(CLIP, "cpu", most=20)
    monkeypatch.setattr(costs, "USUAL", 3)
    ways = [counts(count) for count in (4, 20, 7)]
    seen = []
    forward = counts.scorer.network.forward

    def counted(*given, **options):
        output = forward(*given, **options)
        seen.append(output.mask_logits.shape[1])
        return output

    monkeypatch.setattr(counts.scorer.network, "forward", counted)
    with torch.inference_mode():
        for way in ways:
            way()
    assert seen == [4, 20, 7]


def test_cost_against_pixels(plan):
    found = by_key(costs.sizes(plan(PYRAMID), (0.01, 1.0)))
    assert set(found) == {
        f"sizes.{size}.{what}" for size in ("0.01", "1") for what in ("seconds", "peak")
    }
    assert found["sizes.1.seconds"].value > found["sizes.0.01.seconds"].value
    assert found["sizes.1.seconds"].name == "10 names, 1 megapixel"


def test_photos_a_second(plan, monkeypatch):
    monkeypatch.setattr(batches, "OWN", [(64, 1), (64, 2)])
    monkeypatch.setattr(batches, "FULL", [(32, 1), (64, 2)])
    found = by_key(batches.batches(plan(PYRAMID)))
    assert set(found) == {f"batches.{x}.rate" for x in ("own.64.1", "own.64.2", "deop.32.1",
                                                        "deop.64.2")}  # fmt: skip
    assert {figure.better for figure in found.values()} == {"higher"}
    assert found["batches.deop.64.2.rate"].at == 2


def test_a_full_size_network_sees_the_size_that_is_asked_for():
    assert FullSize(CLIP, "cpu").scorer.input_size((96, 128)) == (96, 128)


def test_models_on_the_same_photos(plan, tmp_path):
    photos = tuple(sorted(write_photos(tmp_path / "photos", 2, (64, 96)).iterdir()))
    found = by_key(models.models(plan(PYRAMID, photos)))
    ways = ("deop", "san", "clip", "two-stream", "own")
    assert {key.split(".")[1] for key in found} == set(ways)
    for way in ways:
        whole = found[f"models.{way}.seconds"].value
        if way != "deop":
            ratio = whole / found["models.deop.seconds"].value
            assert found[f"models.{way}.ratio"].value == pytest.approx(ratio)
        random = "random weights" in found[f"models.{way}.seconds"].name
        assert random == (way != "own")
    parameters = {way: found[f"models.{way}.parameters"].value for way in ways}
    assert parameters["two-stream"] == parameters["deop"] > parameters["clip"]
    assert found["models.own.seconds"].name == "tiny, 96×64"


def test_every_way_labels_every_photo(plan, tmp_path):
    photos = tuple(sorted(write_photos(tmp_path / "photos", 2, (70, 90)).iterdir()))
    ways = Ways(plan(PYRAMID).load, "cpu", photos)
    with torch.inference_mode():
        for way in models.WAYS:
            first, second = ways(way)()
            assert first is not second
    assert ways.scorer("two-stream") is ways.scorer("deop")


def test_made_up_photos_are_the_same_each_time_and_have_structure():
    first, again, other = made_up((700, 40)), made_up((700, 40)), made_up((700, 40), 1)
    assert first.shape == (700, 40, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    assert first[600:].std() > 5


def test_a_section_that_is_none():
    plan_module.require_sections(["sizes", "names"])
    with pytest.raises(UsageError, match="'nonsense': .* start, throughput, names, masks"):
        plan_module.require_sections(["names", "nonsense"])


def test_sections_are_measured_once_and_in_order(monkeypatch):
    calls = []
    monkeypatch.setattr(costs, "names", lambda plan: calls.append("names") or [1, 2])
    monkeypatch.setattr(costs, "sizes", lambda plan: calls.append("sizes") or [3])
    assert list(plan_module.measure(None, ("sizes", "names", "sizes"))) == [1, 2, 3]
    assert calls == ["names", "sizes"]


def fill(megabytes):
    """A way that needs so much memory."""
    return lambda: np.ones(megabytes * 1_000_000, np.uint8).sum()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_is_no_traceback():
    with pytest.raises(OvsegError, match="want of memory.*--only"):
        in_fresh_process(killed)


def test_the_peak_is_that_of_the_way_alone(monkeypatch):
    monkeypatch.setattr("ovseg_cli.benchmark.ways.in_fresh_process", in_fresh_process)
    held = np.ones(500_000_000, np.uint8)  # what this process has does not count
    little, much = (once(fill, megabytes).peak_bytes for megabytes in (1, 401))
    assert len(held) and 350e6 < much - little < 450e6
