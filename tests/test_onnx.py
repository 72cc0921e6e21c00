"""A network as an ONNX file gives in onnxruntime what it gives in torch, at every size."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from small_models import CLIP, PLAIN, PYRAMID, SMALL_SAN

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.loading import load_model
from ovseg_cli.masks.regions import find_regions
from ovseg_cli.media.images import read_image
from ovseg_cli.model.build import build
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.score_map import full_scores
from ovseg_cli.onnx_export import PARTS, described, export
from ovseg_cli.segmenter import Segmenter
from ovseg_cli.vocabulary import Vocabulary

PHOTOS = sorted((Path(__file__).parents[1] / "examples" / "photos").glob("*.jpg"))
KINDS = {"deop": CLIP, "pyramid": PYRAMID, "plain": PLAIN, "san": SMALL_SAN}
SYNONYMS = Vocabulary(["sky|heaven", "tree|forest|bush", "grass", "building", "mountain"])


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory):
    """One for all tests here, so that a model is exported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVSEG_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Files of toy models whose masks, positions and classes differ from each other."""
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for kind, config in KINDS.items():
        torch.manual_seed(4)
        network = build(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            if kind == "san":
                network.logit_scale.fill_(2.0)
        files[kind] = folder / f"{kind}.safetensors"
        weights.save(weights.Checkpoint(config, network.state_dict(), licence="free"), files[kind])
    return files


def entry_and_network(path, **options):
    return weights.find(path), load_model(path, "cpu", **options).network


@pytest.fixture(scope="module")
def exported(models):
    """Kind and part -> the file's content; each is made once."""

    @cache
    def content(kind: str, part: str) -> bytes:
        entry, network = entry_and_network(models[kind], size=96)
        return export(network, part, entry)

    return content


def run(content: bytes, *inputs: torch.Tensor) -> list[np.ndarray]:
    """Straight through onnxruntime, as a foreign program would."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))


# Batch, height, width and phrases. 32×128 are as many patches as the small SAN's table has rows,
# in another shape; 64×64 fits tables as they are; 96×160 is what is traced.
SIZES = [(1, 64, 64, 1), (3, 32, 128, 4), (2, 96, 160, 3), (1, 160, 96, 9)]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        *(("deop", "queries"), ("deop", "grid"), ("pyramid", "queries"), ("pyramid", "grid")),
        *(("plain", "grid"), ("san", "queries"), ("san", "grid")),
    ],
)
def test_the_graph_gives_what_the_network_gives_at_every_size(models, exported, kind, part):
    network, content = load_model(models[kind], "cpu").network, exported(kind, part)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    for number, (images, height, width, phrases) in enumerate(SIZES):
        torch.manual_seed(number)
        image = torch.randn(images, 3, height, width)
        text = F.normalize(torch.randn(phrases, network.config.joint_width), dim=-1)
        with torch.no_grad():
            wanted = network(image, TextFeatures(text), part)
        *masks, logits = run(content, image, text)
        # Logits reach 100, masks some units.
        np.testing.assert_allclose(
            logits.reshape(wanted.class_logits.shape), wanted.class_logits, atol=1e-3
        )
        if part == "queries":
            np.testing.assert_allclose(masks[0], wanted.mask_logits, atol=1e-4)
        else:
            assert logits.shape[1:3] == wanted.grid_hw


def test_patch_features_for_masks_from_elsewhere(models):
    entry, network = entry_and_network(models["deop"], attention="mask")
    assert network.looks_at_masks
    content = export(network, "masked_patches", entry)
    image, masks = torch.randn(1, 3, 64, 96), 5 * torch.randn(1, 2, 64, 96)
    with torch.no_grad():
        wanted = network.patch_features(image, masks)
    np.testing.assert_allclose(run(content, image, masks)[0], wanted, atol=1e-4)


def test_a_file_says_what_it_is_and_holds_no_text_encoder(models, exported):
    content = exported("san", "queries")
    facts = described(content)
    assert facts["opset"] == "17"
    assert facts["input images"] == "float32 (images, 3, height, width)"
    assert facts["input text_features"] == "float32 (phrases, 16)"
    assert facts["output class_logits"] == "float32 (images, 6, phrases_and_non_object)"
    assert facts["model_sha256"] == weights.file_digest(models["san"])
    assert (facts["model"], facts["licence"]) == ("san", "free")
    assert json.loads(facts["pixel_mean"]) == list(SMALL_SAN.input.pixel_mean)
    assert (facts["min_size"], facts["size_divisibility"]) == ("96", "32")
    sizes = [len(tensor.raw_data) for tensor in onnx.load_from_string(content).graph.initializer]
    table = SMALL_SAN.text.tokens * SMALL_SAN.text.width * 4
    assert max(sizes) < table / 4


def test_exporting_leaves_the_network_as_it_was(models):
    entry, network = entry_and_network(models["pyramid"])
    text = TextFeatures(F.normalize(torch.randn(3, 16), dim=-1))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image, text).class_logits
        export(network, "grid", entry)  # there is batch norm in it
        after = network(image, text).class_logits
    assert torch.equal(before, after)
    assert not any(module.training for module in network.modules())


def test_a_graph_that_is_not_the_network_is_refused(models, monkeypatch):
    entry, network = entry_and_network(models["plain"])
    # The number of rows as a number in the graph: a danger of tracing.
    fixed = replace(
        PARTS["patches"],
        run=lambda net, x: (net.patch_features(x)[:, : int(x.shape[2]) // 16],),
    )
    monkeypatch.setitem(PARTS, "patches", fixed)
    with pytest.raises(UsageError, match="is not this model: its patch_features differ"):
        export(network, "patches", entry)


def test_a_graph_that_onnxruntime_cannot_run_is_one_message(models, monkeypatch, capfd):
    entry, network = entry_and_network(models["plain"])
    # The number of images as a number in the graph.
    fixed = replace(
        PARTS["patches"],
        run=lambda net, x: (net.patch_features(x)[torch.tensor([int(x.shape[0]) - 1])],),
    )
    monkeypatch.setitem(PARTS, "patches", fixed)
    with pytest.raises(UsageError, match="onnxruntime refuses what was exported"):
        export(network, "patches", entry)
    assert capfd.readouterr().err == ""  # onnxruntime's own log


def agreement(one, other) -> float:
    assert one.vocabulary == other.vocabulary
    return float((one.labels == other.labels).mean())


@pytest.mark.parametrize("proposals", ["grid", "queries"])
def test_mini_labels_photos_alike_in_both_runtimes(proposals):
    frames = [read_image(path) for path in PHOTOS[::2]]
    seen: set[int] = set()
    for size in (160, 224):
        both = [
            Segmenter(
                load_model("mini", "cpu", size=size, proposals=proposals, runtime=runtime),
                SYNONYMS,
                other="rest",
            )
            for runtime in ("torch", "onnx")
        ]
        for frame in frames:
            torch_one, onnx_one = (segmenter(frame) for segmenter in both)
            assert agreement(torch_one, onnx_one) >= 0.999
            scores = [full_scores(s.score_maps([frame])[0], frame.size_hw) for s in both]
            torch.testing.assert_close(*scores, atol=1e-3, rtol=1e-3)
            alike = torch_one.labels == onnx_one.labels  # R and a name differ in confidence
            np.testing.assert_allclose(
                torch_one.confidence[alike], onnx_one.confidence[alike], atol=1e-3
            )
            seen |= set(np.unique(torch_one.labels))
        pixels = frames[0].pixels
        batch = [Frame(pixels), Frame(pixels[:, ::-1].copy()), Frame(255 - pixels)]
        for pair in zip(*(segmenter.segment(batch) for segmenter in both), strict=True):
            assert agreement(*pair) >= 0.999
    assert len(seen) >= 4  # the photos are not all one


@pytest.mark.parametrize("kind", ["deop", "san", "plain"])
@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"refine": True}, {"masks": find_regions}])
def test_toy_models_label_photos_alike_in_both_runtimes(models, kind, options):
    frame = read_image(PHOTOS[0])
    one, other = (
        Segmenter(load_model(models[kind], "cpu", size=96, runtime=runtime), SYNONYMS, **options)(
            frame
        )
        for runtime in ("torch", "onnx")
    )
    assert agreement(one, other) >= 0.999


@pytest.mark.parametrize("attention", ["mask", "csa", "neighbour"])
def test_other_attentions_run_too(models, attention):
    frame = read_image(PHOTOS[1])
    one, other = (
        Segmenter(
            load_model(models["deop"], "cpu", size=64, attention=attention, runtime=runtime),
            SYNONYMS,
            masks=find_regions if attention == "mask" else None,
        )(frame)
        for runtime in ("torch", "onnx")
    )
    assert agreement(one, other) >= 0.999


@pytest.mark.parametrize("kind", ["deop", "plain", "san"])
@pytest.mark.parametrize(
    "options", [{"attention": "self"}, {"attention": "csa", "last_block": "reduced"}]
)
def test_layers_that_give_their_attention_alone_run_too(models, kind, options, capfd):
    """Behind them tracing does not know any more that the number of images is open."""
    frames = [read_image(path) for path in PHOTOS[:3]]
    one, other = (
        Segmenter(
            load_model(models[kind], "cpu", size=64, proposals="grid", runtime=runtime, **options),
            SYNONYMS,
        )
        for runtime in ("torch", "onnx")
    )
    for frame in frames:
        assert agreement(one(frame), other(frame)) >= 0.999
    assert "onnxruntime" not in capfd.readouterr().err


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("attention", ["csa", "self", "severed"])
def test_attention_that_names_no_queries_is_refused_in_both_runtimes(models, runtime, attention):
    """A SAN's class tokens name its queries: the attention of its patches would change nothing."""
    model = load_model(models["san"], "cpu", size=64, attention=attention, runtime=runtime)
    with pytest.raises(UsageError, match="class tokens name the queries.*--proposals grid"):
        Segmenter(model, SYNONYMS)
    grid = load_model(
        models["san"], "cpu", size=64, attention=attention, runtime=runtime, proposals="grid"
    )
    Segmenter(grid, SYNONYMS)


def without_padding(config, patch=16, **more):
    """A model as imported with size_divisibility 0 or -1."""
    sizes = replace(config.input, size_divisibility=1)
    if config.visual.kind != "clip":
        return replace(config, input=sizes, **more)
    return replace(config, input=sizes, visual=replace(config.visual, patch_size=patch), **more)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        *((without_padding(CLIP), part) for part in ("queries", "grid")),
        *((without_padding(PYRAMID), part) for part in ("queries", "grid")),
        (without_padding(PLAIN, 14), "grid"),
        *((without_padding(SMALL_SAN, 14, clip_scale=0.7), part) for part in ("queries", "grid")),
    ],
)
def test_models_without_padding_are_exported_too(models, config, part):
    torch.manual_seed(6)
    network = build(config)
    content = export(network, part, weights.find(models["plain"]))
    text = F.normalize(torch.randn(3, config.joint_width), dim=-1)
    for height, width in ((75, 111), (130, 67)):
        image = torch.randn(1, 3, height, width)
        with torch.no_grad():
            wanted = network(image, TextFeatures(text), part).class_logits
        logits = run(content, image, text)[-1]
        np.testing.assert_allclose(logits.reshape(wanted.shape), wanted, atol=1e-3)


@pytest.fixture
def file(exported, tmp_path) -> Path:
    path = tmp_path / "deop.onnx"
    path.write_bytes(exported("deop", "queries"))
    return path


def test_a_file_brings_its_options(models, file):
    model = load_model(models["deop"], runtime=str(file))
    assert (model.config.input.min_size, model.config.proposals) == (96, "queries")
    assert (model.device.type, model.precision) == ("cpu", "fp32")
    same = load_model(models["deop"], size=96, runtime=str(file))
    assert same.config == model.config
    with pytest.raises(UsageError, match="exported with other options: leave out --size"):
        load_model(models["deop"], size=64, runtime=str(file))
    with pytest.raises(UsageError, match="holds queries, and what was asked for needs patches"):
        Segmenter(model, SYNONYMS, masks=find_regions)


def test_a_file_serves_every_quality(models, file):
    """Looks are made before the graph: it labels as torch does, and keeps its own size."""
    frame = read_image(PHOTOS[0])
    exported = load_model(models["deop"], runtime=str(file), quality="high")
    assert exported.config.input.min_size == 96
    torch_ = load_model(models["deop"], "cpu", size=96, proposals="queries", quality="high")
    one, other = (Segmenter(model, SYNONYMS)(frame) for model in (exported, torch_))
    assert agreement(one, other) >= 0.999
    plain = Segmenter(load_model(models["deop"], runtime=str(file)), SYNONYMS)(frame)
    assert not np.allclose(one.confidence, plain.confidence, rtol=0.1, atol=0)


def test_wrong_files_are_refused_by_name(models, file, tmp_path):
    with pytest.raises(UsageError, match=r"another model than plain.*export-model plain --to onnx"):
        load_model(models["plain"], runtime=str(file))
    with pytest.raises(UsageError, match="nowhere.onnx: no such file, and neither torch nor onnx"):
        load_model(models["plain"], runtime="nowhere.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    content = file.read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name in ("text.onnx", "half.onnx", "foreign.onnx"):
        with pytest.raises(UsageError, match=f"{name} is no file of `ovseg export-model`"):
            load_model(models["deop"], runtime=str(tmp_path / name))


def altered(file, change) -> Path:
    """The file with its graph or its metadata (a dict of texts) changed."""
    model = onnx.load_from_string(file.read_bytes())
    facts = {entry.key: entry.value for entry in model.metadata_props}
    change(model.graph, facts)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    path = file.with_name("altered.onnx")
    path.write_bytes(model.SerializeToString())
    return path


def followed_by(graph, output: str, *nodes):
    """What a graph gives as `output` goes through nodes, from "before" to "after"."""
    for node in graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
        node.input[:] = ["before" if name == output else name for name in node.input]
    for node in nodes:
        node.output[:] = [output if name == "after" else name for name in node.output]
    graph.node.extend(nodes)


def declared(graph, name: str, kind=onnx.TensorProto.FLOAT, shape=None):
    (value,) = (v for v in (*graph.input, *graph.output) if v.name == name)
    shape = shape or [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    value.CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))


def whole_numbers(graph, facts):
    cast = onnx.helper.make_node("Cast", ["before"], ["after"], to=onnx.TensorProto.INT64)
    followed_by(graph, "class_logits", cast)
    declared(graph, "class_logits", onnx.TensorProto.INT64)


def another_name(graph, facts):
    followed_by(graph, "class_logits", onnx.helper.make_node("Identity", ["before"], ["logits"]))
    graph.output[1].name = "logits"


def fewer_axes(graph, facts):
    sums = onnx.helper.make_node("ReduceMax", ["before"], ["after"], axes=[2], keepdims=0)
    followed_by(graph, "class_logits", sums)
    declared(graph, "class_logits", shape=["images", 5])


def one_size_alone(graph, facts):
    declared(graph, "images", shape=[1, 3, 64, 64])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (whole_numbers, r"outputs are .*class_logits tensor\(int64\)"),
        (another_name, "outputs are .*logits"),
        (fewer_axes, r"outputs are .*class_logits tensor\(float\) \(images, 5\)"),
        (one_size_alone, r"inputs are images tensor\(float\) \(1, 3, 64, 64\)"),
        (lambda graph, facts: facts.update(mask_stride="0"), "a mask_stride of 0"),
        (lambda graph, facts: facts.update(mask_stride="1" + "0" * 30), "a mask_stride of 10"),
        (lambda graph, facts: facts.update(config="[" * 100_000), "nested too deeply"),
        (lambda graph, facts: facts.update(part="all"), "no file of `ovseg export-model`"),
    ],
)
def test_graphs_that_cannot_serve_are_refused_when_they_are_read(
    models, file, capfd, change, message
):
    path = altered(file, change)
    with pytest.raises(UsageError, match=rf"altered\.onnx is .*{message}") as raised:
        load_model(models["deop"], runtime=str(path))
    assert "export it again with `ovseg export-model`" in str(raised.value)
    assert capfd.readouterr().err == ""  # onnxruntime's own log


def surplus_class(graph, facts):
    twice = onnx.helper.make_node("Concat", ["before", "before"], ["after"], axis=2)
    followed_by(graph, "class_logits", twice)


def fails(graph, facts):
    graph.initializer.append(onnx.numpy_helper.from_array(np.full(5, 99), "beyond"))
    gather = onnx.helper.make_node("Gather", ["before", "beyond"], ["after"], axis=1)
    followed_by(graph, "class_logits", gather)


def far_larger_masks(graph, facts):
    tile = onnx.numpy_helper.from_array(np.array([1, 1, 9, 9]), "nine")
    graph.initializer.append(tile)
    followed_by(graph, "mask_logits", onnx.helper.make_node("Tile", ["before", "nine"], ["after"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (surplus_class, r"gives class_logits of float32 \(1, 5, 18\)"),
        (far_larger_masks, r"gives mask_logits of float32"),
        (fails, "cannot be run: .*Gather"),
    ],
)
def test_what_a_graph_gives_is_looked_at(models, file, capfd, change, message):
    model = load_model(models["deop"], runtime=str(altered(file, change)))
    with pytest.raises(CheckpointError, match=rf"altered\.onnx {message}") as raised:
        Segmenter(model, SYNONYMS)(read_image(PHOTOS[0]))
    assert "export it again with `ovseg export-model`" in str(raised.value)
    assert capfd.readouterr().err == ""


def with_config(**changes):
    def change(graph, facts):
        values = json.loads(facts["config"])
        for part, within in changes.items():
            values[part] = values[part] | within if isinstance(within, dict) else within
        facts["config"] = json.dumps(values)

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_config(text={"layers": 2}),
        with_config(input={"size_divisibility": 1}),
        with_config(input={"min_size": 96, "max_size": 100_000}),
        with_config(input={"min_size": 16}),
        with_config(logit_scale=50.0),
        lambda graph, facts: facts.update(config=json.dumps(SMALL_SAN.to_dict())),
    ],
)
def test_a_configuration_of_another_network_is_the_file_s_fault(models, file, change):
    """Not the model's, which is not damaged."""
    path = altered(file, change)
    with pytest.raises(UsageError, match=r"altered\.onnx tells of another network than deop is"):
        load_model(models["deop"], runtime=str(path))


def never_ends(graph, facts):
    true = onnx.numpy_helper.from_array(np.array(True), "true")
    graph.initializer.append(true)
    inner = {
        name: onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("number", onnx.TensorProto.INT64, []),
            ("go", onnx.TensorProto.BOOL, []),
            ("x", onnx.TensorProto.FLOAT, None),
            ("go_on", onnx.TensorProto.BOOL, []),
            ("y", onnx.TensorProto.FLOAT, None),
        )
    }
    same = [onnx.helper.make_node("Identity", *io) for io in ((["go"], ["go_on"]), (["x"], ["y"]))]
    values = list(inner.values())
    body = onnx.helper.make_graph(same, "body", values[:3], values[3:])
    loop = onnx.helper.make_node("Loop", ["", "true", "before"], ["after"], body=body)
    followed_by(graph, "class_logits", loop)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_graph_that_never_ends_is_ended_by_ctrl_c(models, file):
    path = altered(file, never_ends)
    code = (
        "import sys, numpy, ovseg_cli\n"
        "model = ovseg_cli.load_model(sys.argv[1], runtime=sys.argv[2])\n"
        "print('now', flush=True)\n"
        "try: model.segment(numpy.zeros((64, 64, 3), numpy.uint8), ['sky'])\n"
        "except KeyboardInterrupt: print('ended')\n"
    )
    command = [sys.executable, "-c", code, str(models["deop"]), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "now\n"
            time.sleep(2)
            assert process.poll() is None  # still in it
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == "ended\n"
        finally:
            process.kill()


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"precision": "bf16"}])
def test_what_onnxruntime_does_not_do_here_is_refused(models, options):
    with pytest.raises(UsageError, match="computes on the cpu in fp32: leave out --"):
        load_model(models["plain"], runtime="onnx", **options)


def test_missing_packages_are_named_with_the_remedy(models, file, monkeypatch):
    entry, network = entry_and_network(models["plain"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"needs onnx.*pip install 'ovseg-cli\[onnx\]'"):
        export(network, "grid", entry)
    with pytest.raises(UsageError, match=r"needs onnxruntime.*pip install 'ovseg-cli\[onnx\]'"):
        load_model(models["deop"], runtime=str(file))


def test_a_model_is_exported_once_and_again_where_the_file_is_damaged(
    models, tmp_path, monkeypatch
):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path))
    made = []

    def counting(network, part, entry):
        made.append(part)
        return export(network, part, entry)

    monkeypatch.setattr("ovseg_cli.onnx_runtime.export", counting)

    def labels(**options):
        model = load_model(models["plain"], runtime="onnx", **options)
        return Segmenter(model, SYNONYMS)(Frame(np.full((40, 60, 3), 90, np.uint8))).labels

    first = labels()
    labels(size=96)  # the graph is the same
    assert made == ["grid"]
    labels(attention="csa")
    assert made == ["grid", "grid"]
    files = sorted((tmp_path / "onnx").iterdir())
    assert [path.suffix for path in files] == [".onnx", ".onnx"]
    for path in files:
        path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(labels(), first)
    assert len(made) == 3


def test_where_nothing_can_be_kept_it_works_all_the_same(models, tmp_path, monkeypatch, caplog):
    (tmp_path / "onnx").write_text("a file where the folder should be")
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path))
    model = load_model(models["plain"], runtime="onnx")
    Segmenter(model, SYNONYMS)(Frame(np.zeros((40, 60, 3), np.uint8)))
    assert "the export is not kept" in caplog.text
