import json
import math
import os
from dataclasses import fields

import pytest

from ovseg_cli.benchmark import fresh
from ovseg_cli.benchmark.baseline import Baseline, store
from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.cli import bench_run
from ovseg_cli.errors import OutputError, UsageError

TIME = Figure("names.10.seconds", "ten names", 2.0, "s", "lower", at=10)
RATE = Figure("throughput.files", "photos", 10.0, "1/s", "higher")
FACT = Figure("models.own.parameters", "parameters", 15.0, "million")


@pytest.fixture
def baseline(tmp_path):
    store(tmp_path / "b.json", [TIME, RATE, FACT], {"cpu": "a", "date": "1"}, {"runs": 3})
    return Baseline(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (TIME, 2.0, ""),
        (TIME, 2.2, ""),
        (TIME, 2.29, ""),
        (TIME, 2.31, "worse"),
        (TIME, 1.8, ""),
        (TIME, 1.7, "better"),
        (RATE, 9.0, ""),
        (RATE, 8.75, ""),
        (RATE, 8.6, "worse"),
        (RATE, 11.0, ""),
        (RATE, 12.0, "better"),
        (FACT, 99.0, ""),
        (FACT, 1.0, ""),
    ],
)
def test_worse_is_slower_or_less_a_second(baseline, figure, value, verdict):
    now = Figure(figure.key, figure.name, value, figure.unit, figure.better)
    found = baseline.compare(now, 0.15)
    assert found.verdict == verdict
    assert found.before == figure.value
    assert found.ratio == value / figure.value


def test_the_same_slowness_counts_the_same_as_seconds_and_as_rate(baseline):
    for factor in (1.05, 1.1, 1.2, 1.4):
        slower = Figure(TIME.key, "", TIME.value * factor, "s", "lower")
        fewer = Figure(RATE.key, "", RATE.value / factor, "1/s", "higher")
        verdicts = {baseline.compare(figure, 0.15).verdict for figure in (slower, fewer)}
        assert verdicts == {"worse" if factor > 1.15 else ""}


def test_what_was_not_measured_then_is_new(baseline):
    found = baseline.compare(Figure("sizes.1.seconds", "", 1.0, "s", "lower"), 0.15)
    assert (found.verdict, found.before, found.ratio) == ("new", None, None)


@pytest.mark.parametrize(
    ("before", "now"),
    [(0.0, 3.0), (-5.0, 3.0), (5e-324, 3.0), (1e-320, 1e-320), (1e300, 5e-324), (3.0, 0.0)],
)
def test_what_has_no_ratio_is_not_called_the_same(tmp_path, before, now):
    store(tmp_path / "b.json", [Figure("a.b", "", before, "s", "lower")], {}, {})
    found = Baseline(tmp_path / "b.json").compare(Figure("a.b", "", now, "s", "lower"), 0.1)
    assert (found.ratio, found.verdict) == (None, "not comparable")
    assert found.record()["verdict"] == "not comparable"


def test_other_circumstances_are_told(baseline):
    assert baseline.differences({"cpu": "a", "date": "2"}, {"runs": 3}) == []
    found = baseline.differences({"cpu": "b", "date": "2"}, {"runs": 5})
    assert found == ["cpu a, now b", "runs 3, now 5"]


def test_sections_that_the_baseline_lacks(baseline):
    baseline.require(["sizes", "names"])
    with pytest.raises(UsageError, match="holds figures of names, throughput, models"):
        baseline.require(["sizes"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"[1, 2]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "figures": {}}',
        b'{"format": 1, "figures": []}',
        b'{"format": 2, "figures": [{"key": "a.b", "value": 1}]}',
        b'{"format": true, "figures": [{"key": "a.b", "value": 1}]}',
        b'{"format": 1, "figures": [{"key": "a.b", "value": 1}, {"key": "a.b", "value": 9}]}',
        b'{"format": 1, "figures": [1]}',
        b'{"format": 1, "figures": [{"key": "a.b"}]}',
        b'{"format": 1, "figures": [{"key": "a.b", "value": "1"}]}',
        b'{"format": 1, "figures": [{"key": "a.b", "value": NaN}]}',
        b'{"format": 1, "figures": [{"key": "a.b", "value": true}]}',
        b'{"format": 1, "figures": [{"key": 3, "value": 1}]}',
        b'{"format": 1, "figures": [{"key": "a.b", "value": 1%s}]}' % (b"0" * 400),
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_no_baseline(tmp_path, content):
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(UsageError, match="b.json is no baseline.*--store FILE"):
        Baseline(tmp_path / "b.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(UsageError, match="b.json is no baseline .*not a regular file"):
        Baseline(tmp_path / "b.json")


def test_a_file_of_far_too_many_sections_is_not_all_told(tmp_path):
    figures = [Figure(f"other{n}.b", "", 1.0, "s", "lower") for n in range(2000)]
    store(tmp_path / "b.json", figures, {"cpu": "x" * 10_000}, {})
    baseline = Baseline(tmp_path / "b.json")
    with pytest.raises(UsageError, match="no figures of .*names.* in it") as raised:
        baseline.require(["names"])
    assert len(str(raised.value)) < 500
    assert all(len(told) < 300 for told in baseline.differences({"cpu": "a"}, {}))


def test_a_baseline_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read the baseline .*none.json: No such file"):
        Baseline(tmp_path / "none.json")


def test_what_is_stored_is_plain_json(tmp_path):
    store(tmp_path / "deep" / "b.json", [TIME, FACT], {"cpu": "a"}, {"runs": 3})
    values = json.loads((tmp_path / "deep" / "b.json").read_text())
    first, second = values["figures"]
    assert first == {
        "key": "names.10.seconds",
        "name": "ten names",
        "value": 2.0,
        "unit": "s",
        "better": "lower",
        "at": 10,
    }
    assert "better" not in second and not math.isnan(second["value"])


def test_a_place_that_takes_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        store(tmp_path / "file" / "b.json", [TIME], {}, {})


@pytest.mark.parametrize("option", ["store", "trace"])
def test_a_place_that_takes_no_file_is_found_before_anything_is_measured(tmp_path, option):
    (tmp_path / "file").write_text("")
    given = dict.fromkeys(field.name for field in fields(bench_run.Request))
    request = bench_run.Request(**{**given, option: tmp_path / "file" / "b.json"})
    with pytest.raises(UsageError, match="cannot write to .*file is not a folder"):
        bench_run.execute(request)


def test_a_picture_is_not_lost_with_the_file(tmp_path, monkeypatch):
    (tmp_path / "b.json").mkdir()
    monkeypatch.setattr(fresh, "in_fresh_process", lambda function: function())
    monkeypatch.setattr(bench_run, "_measured", lambda *_: [TIME, RATE])
    given = dict.fromkeys(field.name for field in fields(bench_run.Request))
    paths = {"store": tmp_path / "b.json", "plot": tmp_path / "p.png"}
    request = {**given, "sections": ("names",), "given": (), "inputs": (), **paths}
    with pytest.raises(OutputError):
        bench_run.execute(bench_run.Request(**request))
    assert (tmp_path / "p.png").stat().st_size > 0
