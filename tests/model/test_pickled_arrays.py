"""Pickles made by hand: nothing that a file names is called, and nothing of ours is changed."""

import io
import pickle
import pickletools

import numpy as np
import pytest
import torch

from ovseg_cli.model.pickled_arrays import StoredArray, load_plain

DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + DTYPE + b"}X\x04\x00\x00\x00make" + b"I1\nsb.",  # state for the stand-in
        b"\x80\x02" + DTYPE + b"N}X\x04\x00\x00\x00make" + b"I1\ns\x86b.",  # attributes for it
        b"\x80\x02" + DTYPE + b")\x81.",  # an object of it, as of a class
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02covseg_cli.model.pickled_arrays\nStoredArray\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.shape\x93.",
    ],
)
def test_tricks_are_refused(content):
    pickletools.dis(content, out=io.StringIO())  # it is a pickle
    with pytest.raises(pickle.UnpicklingError):
        load_plain(io.BytesIO(content))


def test_bytes_of_python_2_are_text_in_latin1():
    content = pickle.dumps(np.arange(200, 203, dtype="u1"), protocol=2)
    old = content.replace(b"c_codecs\nencode\n", b"")
    assert old != content
    values = load_plain(io.BytesIO(content)).tensor()
    assert torch.equal(values, torch.arange(200, 203, dtype=torch.uint8))
    array = StoredArray()
    kind = load_plain(io.BytesIO(pickle.dumps(np.dtype("u1"), protocol=2)))
    array.__setstate__((1, (3,), kind, False, "\xc8\xc9\xca"))
    assert torch.equal(array.tensor(), values)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (10**12,)])
def test_a_shape_that_its_bytes_do_not_fill(shape):
    kind = load_plain(io.BytesIO(pickle.dumps(np.dtype("f4"))))
    array = StoredArray()
    array.__setstate__((1, shape, kind, False, bytes(12)))
    with pytest.raises(ValueError, match="reshape"):
        array.tensor()
