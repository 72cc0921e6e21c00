"""`ovseg models download san-...` from a hub of the test's own, to the label map of a photo."""

import hashlib
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from file_server import plain, redirect, running, serve
from mock_segmenter import make_photo
from PIL import Image
from small_models import SMALL_SAN, san_authors_state

from ovseg_cli import download, weights
from ovseg_cli.cli.main import ovseg
from ovseg_cli.importing import import_checkpoint
from ovseg_cli.loading import load_model
from ovseg_cli.model.san import SANConfig
from ovseg_cli.run_folder.run_lock import holding

FILES = {"san-vit-b-16": "san_vit_b_16.pth", "san-vit-l-14": "san_vit_large_14.pth"}


def small(patch_size: int) -> SANConfig:
    """As deep as the published B/16, and narrow; its heads follow from its widths as there."""
    return replace(
        SMALL_SAN,
        visual=replace(
            SMALL_SAN.visual, patch_size=patch_size, width=64, heads=1, layers=12, mlp_width=64
        ),
        text=replace(SMALL_SAN.text, width=64, heads=1),
        shallow_layers=9,
        side_adapter=replace(SMALL_SAN.side_adapter, width=24, heads=6, fused_layers=(0, 3, 6, 9)),
    )


@cache
def authors_file(patch_size: int) -> bytes:
    """What torch.save made of detectron2's state."""
    import io

    file = io.BytesIO()
    torch.save({"model": san_authors_state(small(patch_size)), "iteration": 59999}, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """Sends on to a store, as the real one does, and says size and SHA-256; `hub.file` is there."""
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)

    def answer(request):
        if request.path.startswith("/store/"):
            state.store(request)
        elif request.path.startswith("/Mendel192/san/resolve/main/"):
            linked = {"X_Linked_Size": str(len(state.file)), "X_Linked_ETag": f'"{state.sha256}"'}
            redirect("/store/1", **linked)(request)
        else:
            request.send_error(404)

    with running(answer) as state:
        state.file = authors_file(16)
        state.sha256 = hashlib.sha256(state.file).hexdigest()
        state.store = lambda request: serve(state.file)(request)
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.fixture
def ran(capfd):
    """Runs a command; what it ended with and said."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            ovseg.main(list(arguments), prog_name="ovseg")
        return (int(end.value.code or 0), *capfd.readouterr())

    return run


def kept() -> list[str]:
    """The files that downloads left behind."""
    folder = weights.home() / "downloads"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(("name", "patch_size"), [("san-vit-b-16", 16), ("san-vit-l-14", 14)])
def test_from_the_hub_to_a_label_map(hub, ran, tmp_path, name, patch_size):
    hub.file = authors_file(patch_size)
    hub.sha256 = hashlib.sha256(hub.file).hexdigest()
    code, out, err = ran("models", "download", name, "--json")
    assert code == 0, err
    megabytes = len(hub.file) / 1e6
    assert f"resolve/main/{FILES[name]}, {megabytes:.1f} MB; licence: MIT" in err
    assert "SHA-256" not in err  # the hub states it
    record = json.loads(out)
    assert (record["name"], record["licence"], record["here"]) == (name, "MIT", True)
    assert {path for _, path, _ in hub.seen} == {
        f"/Mendel192/san/resolve/main/{FILES[name]}",
        "/store/1",
    }
    assert kept() == []
    assert ran("models", "verify", name)[:2] == (0, f"{name}: intact\n")

    config = load_model(name, "cpu").config
    assert (config.visual.patch_size, config.clip_scale) == (
        patch_size,
        {16: 0.5, 14: 0.7}[patch_size],
    )
    assert (config.input.min_size, config.side_adapter.heads) == (640, 6)
    make_photo(tmp_path / "a.png", (90, 64))
    names = ["sky", "traffic light", "grass"]
    code, _, err = ran(
        *("segment", str(tmp_path / "a.png"), "--classes", ",".join(names), "--model", name),
        *("--save", "labels", "-o", str(tmp_path / "out"), "--device", "cpu"),
    )
    assert code == 0, err
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "a.png"))
    (tmp_path / "by-hand.pth").write_bytes(hub.file)
    import_checkpoint(tmp_path / "by-hand.pth", "by-hand")
    expected = load_model("by-hand", "cpu").segment(tmp_path / "a.png", names).labels
    assert np.array_equal(labels, expected)

    hub.seen.clear()
    code, _, err = ran("models", "download", name)
    assert (code, hub.seen) == (0, [])
    assert "here already" in err


def test_another_file_than_the_hub_stated_is_not_kept(hub, ran, tmp_path):
    hub.sha256 = "0" * 64
    code, out, err = ran("models", "download", "san-vit-b-16")
    assert (code, out) == (1, "")
    assert "SHA-256 is another" in err
    assert "Traceback" not in err
    assert kept() == []
    assert not (weights.home() / "models").exists()
    photo = str(make_photo(tmp_path / "a.png"))
    code, _, err = ran("segment", photo, "--classes", "a", "--model", "san-vit-b-16")
    assert code == 2
    assert "ovseg models download san-vit-b-16" in err


def test_a_connection_that_is_cut_goes_on_with_the_same_command(hub, ran):
    whole, first = serve(hub.file), serve(hub.file, cut=5_000_000)

    def dying(request):
        if request.headers.get("Range") is None:
            first(request)
        else:
            request.send_error(503)

    hub.store = dying
    code, _, err = ran("models", "download", "san-vit-b-16")
    assert code == 1
    assert "5.0 MB are kept, the same command goes on" in err
    assert not (weights.home() / "models").exists()
    hub.store = whole
    hub.seen.clear()
    code, _, err = ran("models", "download", "san-vit-b-16")
    assert code == 0, err
    assert ("GET", "/store/1", "bytes=5000000-") in hub.seen
    assert kept() == []
    assert ran("models", "verify", "san-vit-b-16")[0] == 0


def test_a_model_that_another_process_downloads(hub, ran):
    with holding(weights.home() / "downloads", "san-vit-b-16"):
        code, out, err = ran("models", "download", "san-vit-b-16")
        assert (code, out) == (2, "")
        assert "san-vit-b-16 is being downloaded by another process" in err
        assert {method for method, _, _ in hub.seen} == {"HEAD"}
        hub.file = authors_file(14)
        hub.sha256 = hashlib.sha256(hub.file).hexdigest()
        assert ran("models", "download", "san-vit-l-14")[0] == 0
    assert kept() == []


def test_a_home_that_is_a_file(hub, ran, tmp_path):
    (tmp_path / "home").write_text("")
    code, out, err = ran("models", "download", "san-vit-b-16")
    assert (code, out) == (2, "")
    assert "cannot write to" in err
    assert "bug" not in err


def test_a_page_instead_of_the_file(hub, ran):
    hub.store = serve(b"<html>Sign in</html>", Content_Type="text/html")
    code, out, err = ran("models", "download", "san-vit-b-16")
    assert (code, out) == (1, "")
    assert "a web page comes instead of the model" in err
    assert kept() == []


def test_a_file_that_is_gone(hub, ran):
    hub.answer = plain(404)
    code, out, err = ran("models", "download", "san-vit-l-14")
    assert (code, out) == (1, "")
    assert "san_vit_large_14.pth: the server answers 404" in err
    assert "`ovseg models show` tells the model's page" in err
    assert "`ovseg models import`" in err
    assert kept() == []


def test_a_pointer_instead_of_the_file(hub, ran):
    """What a repository's page gives where the store is not asked."""
    hub.file = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 631000000\n"
    hub.sha256 = hashlib.sha256(hub.file).hexdigest()
    code, _, err = ran("models", "download", "san-vit-b-16")
    assert code == 1
    assert "is what Git LFS keeps in the place of a file" in err
    assert kept() == []


@pytest.mark.parametrize("spoilt", ["missing", "not finite"])
def test_a_file_of_the_right_kind_that_is_not_right(hub, ran, spoilt):
    import io

    state = san_authors_state(small(16))
    name = "side_adapter_network.mask_decoder.bias_scaling.weight"
    if spoilt == "missing":
        del state[name]
    else:
        state[name].fill_(float("nan"))
    file = io.BytesIO()
    torch.save({"model": state}, file)
    hub.file = file.getvalue()
    hub.sha256 = hashlib.sha256(hub.file).hexdigest()
    code, _, err = ran("models", "download", "san-vit-b-16")
    assert code == 1
    assert spoilt in err
    assert kept() == []
    assert not list((weights.home() / "models").glob("*"))
