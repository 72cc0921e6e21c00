"""`ovseg bench` as it is typed; what is measured is made up."""

import json

import pytest
from PIL import Image

from ovseg_cli.benchmark import fresh
from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.benchmark.machine import machine, one_line
from ovseg_cli.cli import bench_run
from ovseg_cli.vocabulary import Vocabulary

FIGURES = [
    Figure("names.10.seconds", "ten names", 2.0, "s", "lower", at=10),
    Figure("names.1000.seconds", "thousand names", 3.0, "s", "lower", at=1000),
    Figure("throughput.files", "photos", 10.0, "1/s", "higher"),
    Figure("models.deop.seconds", "DeOP (random weights)", 4.0, "s", "lower", share=0.5),
]


@pytest.fixture
def bench(program, monkeypatch):
    """Runs `ovseg bench` on figures that a factor makes worse; `asked` has the last request."""
    monkeypatch.setattr(fresh, "in_fresh_process", lambda function, *given: function(*given))

    def run(*arguments, seconds=1.0, rate=1.0):
        def measured(request, folder, facts):
            run.asked = request
            for figure in FIGURES:
                factor = seconds if figure.unit == "s" else rate
                yield Figure(**{**vars(figure), "value": figure.value * factor})

        monkeypatch.setattr(bench_run, "_measured", measured)
        return program("bench", *arguments)

    return run


def test_sections_are_chosen_by_name(bench):
    assert bench("--only", " sizes,names , sizes").code == 0
    assert bench.asked.sections == ("sizes", "names")
    for wrong in ("names,nonsense", "profile"):
        ended = bench("--only", wrong)
        assert ended.code == 2 and "the sections of the benchmark are start" in ended.err
    for none in ("", ","):
        ended = bench("--only", none)
        assert ended.code == 2 and "--only names nothing" in ended.err


def test_figures_are_lines(bench):
    ended = bench()
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["ten", "names", "2.000", "s"]
    assert lines[3].split()[-2:] == ["s", "50.0%"]
    assert one_line(machine())[:20] in ended.err
    assert bench.asked.sections == ("start", "throughput", "names")


def test_json_is_an_object_a_line(bench):
    head, *figures = map(json.loads, bench("--json").out.splitlines())
    assert {"cpu", "cores", "threads", "torch", "date", "memory_gb"} <= set(head["machine"])
    assert head["settings"] == {"options": [], "runs": 3, "photos": 200}
    assert [figure["key"] for figure in figures] == [figure.key for figure in FIGURES]
    assert figures[0] == {
        "key": "names.10.seconds",
        "name": "ten names",
        "value": 2.0,
        "unit": "s",
        "better": "lower",
        "at": 10,
    }


def test_the_same_again_is_no_regression(bench):
    assert bench("--store", "b.json").code == 0
    ended = bench("--compare", "b.json")
    assert ended.code == 0 and "worse" not in ended.out
    assert "×1.00 of 2.000" in ended.out


@pytest.mark.parametrize(
    ("seconds", "rate", "tolerance", "worse"),
    [
        (1.1, 0.95, "15%", []),
        (1.3, 1.0, "15%", ["names.10.seconds", "names.1000.seconds", "models.deop.seconds"]),
        (1.0, 0.7, "15", ["throughput.files"]),
        (0.5, 2.0, "15%", []),
        (1.3, 0.7, "50%", []),
        (1.01, 1.0, "0%", ["names.10.seconds", "names.1000.seconds", "models.deop.seconds"]),
    ],
)
def test_a_regression_is_marked(bench, seconds, rate, tolerance, worse):
    bench("--store", "b.json")
    options = ("--compare", "b.json", "--tolerance", tolerance, "--json")
    ended = bench(*options, seconds=seconds, rate=rate)
    figures = [json.loads(line) for line in ended.out.splitlines()[1:]]
    assert [figure["key"] for figure in figures if figure["verdict"] == "worse"] == worse
    assert ended.code == (1 if worse else 0)
    assert ("worse than b.json" in ended.err) == bool(worse)
    assert all(key in ended.err for key in worse)
    assert figures[0]["baseline"] == 2.0 and figures[0]["ratio"] == pytest.approx(seconds)


def test_other_circumstances_are_told(bench):
    bench("--store", "b.json")
    ended = bench("--compare", "b.json", "--runs", "1", "--model", "else.safetensors")
    assert "b.json was measured otherwise: options [], now ['--model=else.safetensors']" in (
        ended.err
    )
    assert "runs 3, now 1" in ended.err


def test_a_baseline_of_other_sections(bench):
    bench("--store", "b.json")
    ended = bench("--compare", "b.json", "--only", "sizes")
    assert ended.code == 2 and ended.out == ""
    assert "holds figures of names, throughput, models" in ended.err
    assert "--only names,throughput,models" in ended.err


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": 9, "figures": []}', "[]"])
def test_a_bad_baseline(bench, tmp_path, content):
    if content is not None:
        (tmp_path / "b.json").write_text(content)
    ended = bench("--compare", "b.json")
    assert ended.code == 2 and ended.out == ""
    assert "b.json" in ended.err and "bug" not in ended.err


def test_the_plot_is_a_picture(bench, tmp_path):
    assert bench("--plot", "chart.png").code == 0
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
        assert len(picture.getcolors(1 << 20)) > 20


def test_a_plot_does_not_take_the_place_of_a_baseline(bench, tmp_path):
    (tmp_path / "base.json").write_text("{}")
    ended = bench("--plot", "base.json")
    assert ended.code == 2 and ended.out == ""
    assert "--plot base.json: " in ended.err and "ends in .png" in ended.err
    assert (tmp_path / "base.json").read_text() == "{}"


def test_a_plot_that_cannot_be_written(bench, tmp_path):
    (tmp_path / "file").write_text("")
    ended = bench("--plot", "file/chart.png")
    assert ended.code == 2 and "cannot write to file" in ended.err
    assert "ten names" not in ended.out  # it is said before minutes are spent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "the sections of the benchmark are start, throughput"),
        (["--only", "names", "--one-pass"], "--one-pass is --only one-pass"),
        (["--profile", "--only", "names"], "--profile is a measurement of its own"),
        (["--trace", "t.json"], "--trace is the timeline of --profile"),
        (["a.jpg"], "photos are for --profile and --only models"),
        (["--tolerance", "much"], "no percentage such as 15%"),
        (["--tolerance", "-5"], "no percentage such as 15%"),
        (["--tolerance", "nan"], "no percentage such as 15%"),
        (["--rivals", "ade150"], "--rivals is no part of the benchmark"),
        (["--runs", "0"], "--runs"),
    ],
)
def test_wrong_usage(bench, arguments, message):
    ended = bench(*arguments)
    assert ended.code == 2 and ended.out == ""
    assert message in ended.err


def test_one_pass_is_a_section(bench):
    bench("--one-pass")
    assert bench.asked.sections == ("one-pass",)


def test_the_model_is_measured_as_it_was_asked_for(bench):
    bench("--size", "320", "--proposals", "queries", "--last-block", "full", "--device", "cpu")
    assert sorted(bench.asked.given) == [
        "--device=cpu",
        "--last-block=full",
        "--proposals=queries",
        "--size=320",
    ]


def test_the_chosen_model_at_another_size(bench, fake):
    bench("--size", "320")
    chosen = bench_run.Chosen(bench.asked.compute)
    for size in (None, 480):
        chosen(Vocabulary(["sky"]), size)
    assert [adapted["size"] for _, _, _, adapted in fake.loaded] == [320, 480]
