"""Label files that are no plain label maps."""

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.ade847 import ADE847_IDS
from ovseg_cli.data.stored_labels import label_map_of_mat, objects_of_ade
from ovseg_cli.errors import InputError


def test_objects_of_ade_are_in_red_and_green(tmp_path):
    colours = np.array([[[110, 162, 7], [119, 162, 255], [0, 6, 0], [250, 255, 1]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "x_seg.png")
    objects = objects_of_ade(tmp_path / "x_seg.png")
    assert objects.tolist() == [[2978, 2978, 6, 25 * 256 + 255]]


def test_files_that_cannot_be_read(tmp_path):
    pytest.importorskip("scipy.io")
    (tmp_path / "x").write_bytes(b"nothing")
    for read in (objects_of_ade, label_map_of_mat):
        with pytest.raises(InputError, match="x cannot be read"):
            read(tmp_path / "x")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.array([[1.0, 2.0]]), "not one of 8 or 16 bits"),
        (np.array([[-1, 2]], np.int16), "values from -1 to 2, not of 0 to 65535"),
    ],
)
def test_label_maps_of_matlab_s_that_are_none(tmp_path, stored, message):
    pytest.importorskip("scipy.io").savemat(tmp_path / "x.mat", {"LabelMap": stored})
    with pytest.raises(InputError, match=f"x.mat: the label map .*{message}"):
        label_map_of_mat(tmp_path / "x.mat")


def test_ade_s_numbers_grow_with_its_names(shared_dir):
    """Its index is in alphabetical order up to 3100 objects; what was added later is not."""
    text = (shared_dir / "data/vocabularies/ade847.txt").read_text()
    names = [line.strip() for line in text.splitlines() if line[:1] not in ("", "#")]
    assert len(names) == len(ADE847_IDS) == len(set(ADE847_IDS)) == 847
    ordered = sorted(zip(ADE847_IDS, names, strict=True))
    listed = [name.lower().replace("-", " ") for number, name in ordered if number < 3100]
    assert len(listed) == 827
    assert listed == sorted(listed)
