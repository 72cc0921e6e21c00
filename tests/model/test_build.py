"""Assembling models."""

import torch

from ovseg_cli.model.build import MINI, build, skeleton


def test_a_skeleton_has_the_tensors_of_the_model_and_draws_nothing():
    before = torch.get_rng_state()
    found = skeleton(MINI).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    expected = build(MINI).state_dict()
    assert not torch.equal(torch.get_rng_state(), before)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
