"""Who may know whom: the imports of all files, held against the rooms of the house."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ovseg_cli"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

LEAVES = {
    *("errors", "failures", "frame", "json_files", "links", "printable", "segmentation"),
    *("vocabulary", "vocabulary_files", "whole_files"),
}
# What the files of a room may import of the package, beside the leaves and their own room.
# A file of the top level is its own room.
ALLOWED = {
    "errors": set(),
    "json_files": {"whole_files"},
    "links": {"errors", "printable"},
    "whole_files": {"errors", "printable"},
    "printable": set(),
    "failures": {"errors", "printable"},
    "vocabulary": {"errors", "printable"},
    "vocabulary_files": {"errors", "json_files", "printable", "vocabulary"},
    "frame": set(),
    "segmentation": {"vocabulary"},
    "names": set(),
    "cores": set(),
    "legend": set(),
    "render": {"legend"},
    "encoding": set(),
    "png": {"encoding"},
    "exports": {"encoding", "png", "render"},
    "media": set(),
    "model": set(),
    "run_folder": {"exports", "media", "render"},
    "batch": {"media", "run_folder"},
    "masks": {"importing", "media", "model"},
    "clips": {"batch", "exports", "legend", "media", "model", "render", "run_folder", "segmenter"},
    "data": {"media"},
    "catalogue": set(),
    "weights": {"catalogue", "model"},
    "importing": {"model", "weights"},
    "web_answers": set(),
    "download": {"catalogue", "importing", "web_answers", "weights"},
    "text_cache": {"model"},
    "exemplars": {"media"},
    "class_features": {"exemplars", "model", "names", "scoring", "text_cache", "weights"},
    "prepared": {"model"},
    "outside_masks": {"prepared"},
    "scoring": {"model", "outside_masks", "prepared"},
    "onnx_export": {"model", "prepared", "weights"},
    "onnx_runtime": {"model", "onnx_export", "weights"},
    "segmenter": {
        *("class_features", "exemplars", "media", "model", "outside_masks", "scoring"),
    },
    "loading": {"model", "onnx_runtime", "scoring", "segmenter", "weights"},
    "evaluation": {"data", "exports", "legend", "render", "run_folder"},
    "training": {"data", "evaluation", "importing", "model", "names", "weights"},
    "benchmark": {
        *("batch", "cores", "data", "exports", "legend", "loading", "media", "model", "prepared"),
        *("run_folder", "scoring", "segmenter"),
    },
    "storage": {"exports", "media", "run_folder"},
    "engines": {"batch", "cores", "exports", "media", "run_folder", "storage"},
    "formats": {"exports", "media", "png", "run_folder"},
    "report": {
        *("cores", "data", "encoding", "evaluation", "exports", "legend", "media", "render"),
        "run_folder",
    },
    "cli": {
        *("batch", "benchmark", "catalogue", "clips", "cores", "data", "download", "engines"),
        *("evaluation", "exemplars", "exports", "formats", "importing", "loading"),
        *("masks", "media", "names", "onnx_export", "outside_masks", "report", "run_folder"),
        *("segmenter", "storage", "training", "weights"),
    },
}
# Libraries that only some rooms know; a name before a slash is a whole room.
ONLY_IN = {
    "torch": {"class_features", "clips", "importing", "loading", "model", "scoring", "segmenter",
              "text_cache", "training", "weights", "data", "benchmark", "onnx_export",
              "onnx_runtime", "outside_masks", "prepared", "masks/sam_masks.py"},
    "onnx": {"onnx_export"},
    "onnxruntime": {"onnx_export", "onnx_runtime"},
    "open_clip": {"catalogue", "model"},
    "PIL": {"prepared", "clips", "masks", "media", "render", "legend", "encoding", "exports", "png",
            "formats", "data", "evaluation", "segmenter", "benchmark", "report"},
    "cv2": {"media"},
    "av": {"media"},
    "skimage": {"masks/regions.py"},
    "transformers": {"masks/sam_masks.py"},
    "click": {"cli"},
    "rich": {"cli/console.py"},
    "tqdm": {"cli/console.py"},
    "rasterio": {"formats/geo.py"},
    "ray": {"engines/ray_cluster.py"},
    "fsspec": {"storage/store.py"},
    "safetensors": {"importing", "weights", "text_cache"},
}  # fmt: skip


def room_of(file):
    first = Path(file).parts[0]
    return first.removesuffix(".py")


def imports(file):
    """Full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def rooms_imported(file):
    own = {Path(f).parts[0].removesuffix(".py") for f in FILES}
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "ovseg_cli" and len(parts) > 1 and parts[1] in own:
            yield parts[1]


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_the_rooms_it_may_know(file):
    room = room_of(file)
    if room in ("__init__", "__main__"):
        return
    assert room in ALLOWED, f"a new room: say in ALLOWED whom {file} may know"
    may = ALLOWED[room] | LEAVES if room not in LEAVES else ALLOWED[room]
    assert set(rooms_imported(file)) <= may | {room}


@pytest.mark.parametrize("file", FILES)
def test_a_library_is_known_only_where_it_belongs(file):
    used = {name.split(".")[0] for name in imports(file)} & set(ONLY_IN)
    misplaced = {name for name in used if not {room_of(file), file} & ONLY_IN[name]}
    assert not misplaced


def test_nothing_is_allowed_that_nobody_needs():
    rooms, users = {}, {}
    for file in FILES:
        rooms.setdefault(room_of(file), set()).update(rooms_imported(file))
        for name in imports(file):
            users.setdefault(name.split(".")[0], set()).update((room_of(file), file))
    assert not {room: may - rooms[room] for room, may in ALLOWED.items() if may - rooms[room]}
    assert not {lib: may - users[lib] for lib, may in ONLY_IN.items() if may - users[lib]}


def test_no_room_needs_itself_through_others():
    rooms = {}
    for file in FILES:
        rooms.setdefault(room_of(file), set()).update(rooms_imported(file))
    del rooms["__init__"]  # its public names are loaded when they are asked for
    while rooms:
        settled = [room for room, known in rooms.items() if not known & set(rooms) - {room}]
        assert settled, f"these need each other: {', '.join(sorted(rooms))}"
        for room in settled:
            del rooms[room]


def test_contributors_are_told_where_to_look():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where to look\n")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+/?)`", table)
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(told) == sorted(files | rooms)


def test_errors_import_nothing():
    assert not set(imports("errors.py"))


def modules_after(code):
    """Names of the modules that are loaded after running some code in a new process."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    return set(ran.stdout.split())


HEAVY = {"torch", "open_clip", "cv2", "numpy", "PIL", "rich", "tqdm", "scipy"}


def test_importing_the_package_is_cheap():
    assert not modules_after("import ovseg_cli; ovseg_cli.__version__") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["models", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "from ovseg_cli.cli.main import ovseg\n"
        f"try: ovseg.main({arguments!r})\n"
        "except SystemExit as end: assert not end.code"
    )
    assert not modules_after(code) & HEAVY


def test_photos_are_read_and_written_without_torch_and_cv2():
    loaded = modules_after("import ovseg_cli.batch.run, ovseg_cli.exports, ovseg_cli.media.images")
    assert not loaded & {"torch", "cv2", "open_clip", "rich", "tqdm"}


def test_public_names_are_there():
    import ovseg_cli

    light = set(ovseg_cli.__all__) - {"load_model", "Model", "Segmenter"}
    assert all(hasattr(ovseg_cli, name) for name in light)
    assert set(ovseg_cli.__all__) <= set(dir(ovseg_cli))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ovseg_cli.nonsense
