"""Assembling models."""

from dataclasses import replace

import pytest
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


@pytest.mark.parametrize(
    "config",
    [
        replace(MINI, joint_width=258, heatmap=replace(MINI.heatmap, heads=6)),
        replace(MINI, proposal=replace(MINI.proposal, hidden=126, heads=6)),
    ],
)
def test_a_width_that_positions_do_not_fit_is_refused_at_once(config):
    with pytest.raises(ValueError, match="do not make sine and cosine pairs of two axes"):
        skeleton(config)
