"""The wheel holds all that the program needs, the models of weights/ among it."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ovseg_cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this tree with a made-up model in weights/."""
    pytest.importorskip("setuptools", "70.1")
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    (tree / "README.md").write_text("# A stand-in")
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("ovseg_cli", "weights"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    (tree / "weights" / "made-up.safetensors").write_bytes(b"a model")
    build = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    (built,) = (tree / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {p for p in (ROOT / "ovseg_cli").rglob("*") if p.suffix in (".py", ".txt", ".md")}
    missing = {p.relative_to(ROOT).as_posix() for p in wanted} - packed
    assert not missing, "setup.cfg lists packages and package data"
    assert "ovseg_cli/bundled/made-up.safetensors" in packed
    assert not any(name.startswith(("tests/", "weights/")) for name in packed)


def test_the_program_runs_from_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import importlib.resources as r, ovseg_cli, sys\n"
        "print(ovseg_cli.__file__)\n"
        "print((r.files('ovseg_cli.bundled') / 'made-up.safetensors').read_bytes())\n"
        "from ovseg_cli.cli.main import ovseg; ovseg.main(['--version'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    file, model, version = ran.stdout.splitlines()
    assert Path(file).is_relative_to(tmp_path / "site")
    assert model == str(b"a model")
    assert version.endswith(ovseg_cli.__version__)


def test_the_bundled_models_are_found_here():
    from importlib import resources

    found = {path.name for path in resources.files("ovseg_cli.bundled").iterdir()}
    assert {path.name for path in (ROOT / "weights").glob("*.safetensors")} <= found


def test_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == "ovseg-cli"
    assert config["options.entry_points"]["console_scripts"].strip() == (
        "ovseg = ovseg_cli.__main__:main"
    )
    for line in config["options"]["install_requires"].split("\n"):
        assert not line or ">=" in line, "every dependency has a lower bound"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_the_folder_of_the_oldest_releases_is_seen_from_where_one_stands(tmp_path):
    ran = subprocess.run(
        ["bash", ROOT / ".ci/lowest", "kept"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHON": "no-such-python"},
    )
    assert "it needs Python 3.10" in ran.stderr
    assert (tmp_path / "kept").is_dir() and not (ROOT / "kept").exists()
