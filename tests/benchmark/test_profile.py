"""Where time goes, on models of toy size: a stage that is slowed down, and none else, grows."""

import json
import os
import time

import pytest
from small_models import CLIP, PLAIN, PYRAMID, SMALL_SAN

from ovseg_cli import exports, scoring, segmenter
from ovseg_cli.benchmark import profile as module
from ovseg_cli.benchmark.made_up import write_photos
from ovseg_cli.benchmark.profile import STAGES, profile
from ovseg_cli.benchmark.spans import Span
from ovseg_cli.benchmark.trace import write_trace
from ovseg_cli.errors import InputError
from ovseg_cli.model.network import Network

PAUSE = 0.06  # seconds, of each call


@pytest.fixture
def photos(tmp_path):
    return sorted(write_photos(tmp_path / "photos", 3, (60, 80)).iterdir())


def stages_of(found):
    return {f.key.removeprefix("profile."): f for f in found.figures()}


@pytest.mark.parametrize("config", [CLIP, PYRAMID, PLAIN, SMALL_SAN])
def test_the_stages_add_up_to_the_whole(tiny, photos, tmp_path, config):
    found = stages_of(profile(tiny(config), photos, tmp_path / "out"))
    whole = found["photo"].value
    assert sum(found[stage].value for stage in STAGES) == pytest.approx(whole)
    assert sum(found[stage].share for stage in STAGES) == pytest.approx(1)
    parts = [figure for key, figure in found.items() if key.startswith("model.")]
    assert sum(part.value for part in parts) == pytest.approx(found["model"].value)
    # What no stage accounts for is little; with these sizes a busy machine makes it more.
    assert found["rest"].value < 0.5 * whole
    assert found["rate"].value > 0 and 0 < found["busy"].value <= 1


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            CLIP,
            "backbone proposals.pixel_decoder proposals.transformer proposals visual "
            "heatmap_decoder rest",
        ),
        (
            PYRAMID,
            "backbone visual.context visual.pixel_decoder visual.severed visual.cosines rest",
        ),
        (PLAIN, "visual rest"),
        (SMALL_SAN, "clip_images shallow propose recognise rest"),
    ],
)
def test_the_parts_of_each_kind_of_model(tiny, photos, tmp_path, config, parts):
    found = stages_of(profile(tiny(config), photos[:1], tmp_path / "out"))
    assert {key for key in found if key.startswith("model.")} == {
        f"model.{part}" for part in parts.split()
    }


@pytest.mark.parametrize(
    ("owner", "name", "stage"),
    [
        (module, "read_image", "decode"),
        (Network, "normalise", "resize"),
        (Network, "class_logits", "scores"),
        (scoring, "score_map", "scores"),
        (segmenter, "label_map", "labels"),
        (exports, "overlay", "encode"),
        (os, "replace", "write"),
    ],
)
def test_time_is_laid_at_the_right_door(monkeypatch, tiny, photos, tmp_path, owner, name, stage):
    original = getattr(owner, name)

    def slow(*given, **options):
        time.sleep(PAUSE)
        return original(*given, **options)

    monkeypatch.setattr(owner, name, slow)
    beside = []  # the largest of the other stages: other work on the machine only adds to it
    for attempt in range(3):
        found = stages_of(profile(tiny(CLIP), photos, tmp_path / f"out{attempt}"))
        assert found[stage].value >= 1000 * PAUSE
        others = [found[other].value for other in STAGES if other != stage]
        assert found["photo"].value - found[stage].value == pytest.approx(sum(others))
        beside.append(max(others))
        if beside[-1] < 1000 * PAUSE:
            break
    assert min(beside) < 1000 * PAUSE


def test_a_slow_part_of_the_model_shows(monkeypatch, tiny, photos, tmp_path):
    chosen = tiny(CLIP)
    forward = chosen.model.network.backbone.forward

    def slow(images):
        time.sleep(PAUSE)
        return forward(images)

    monkeypatch.setattr(chosen.model.network.backbone, "forward", slow)
    found = stages_of(profile(chosen, photos, tmp_path / "out"))
    assert found["model"].value > found["model.backbone"].value >= 1000 * PAUSE
    assert chosen.model.network.backbone.forward is slow


def test_nothing_is_changed_afterwards(tiny, photos, tmp_path):
    chosen = tiny(SMALL_SAN)
    before = (scoring.score_map, segmenter.label_map, exports.atomic_path, scoring.prepare)
    profile(chosen, photos[:1], tmp_path / "out")
    after = (scoring.score_map, segmenter.label_map, exports.atomic_path, scoring.prepare)
    assert after == before
    assert not {"forward", "shallow", "class_logits"} & set(vars(chosen.model.network))


def test_results_are_those_of_segment(tiny, photos, tmp_path):
    profile(tiny(PYRAMID), photos, tmp_path / "out")
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")}
    assert {p.stem for p in written if p.parts[0] == "labels"} == {"0000", "0001", "0002"}


def test_a_photo_that_cannot_be_read_is_named(tiny, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad.jpg"):
        profile(tiny(PLAIN), [tmp_path / "bad.jpg"], tmp_path / "out")


def test_time_with_a_pass_counts_once():
    spans = [Span("model", 1, begin, end, 0) for begin, end in ((0, 2), (1, 3), (5, 6), (5, 5.5))]
    assert module._covered(spans) == 4


def test_the_trace_is_what_a_browser_reads(tiny, photos, tmp_path):
    found = profile(tiny(CLIP), photos, tmp_path / "out")
    write_trace(tmp_path / "trace.json", found, {"cpu": "some"})
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace["otherData"] == {"cpu": "some"}
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"]
    assert names == ["one photo after the other", "side by side"]
    assert len(events) == len(found.alone) + len(found.piped)
    assert all(e["ts"] >= 0 and e["dur"] >= 0 and e["name"] and e["cat"] for e in events)
    assert sum(e["name"] == "backbone" for e in events) == 3
    assert sum(e["pid"] == 1 and e["cat"] == "decode" for e in events) == 3
    # Within a thread spans nest: none begins in another one and ends after it.
    alone = [e for e in events if e["pid"] == 0]
    ends = []
    for event in alone:
        while ends and ends[-1] <= event["ts"]:
            ends.pop()
        assert not ends or event["ts"] + event["dur"] <= ends[-1] + 1
        ends.append(event["ts"] + event["dur"])
