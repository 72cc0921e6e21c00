"""The assignment against all there are, its costs against plain loops."""

import builtins
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.training.matcher import (
    cross_entropy_terms,
    dice_costs,
    mask_costs,
    match,
    set_target,
)


def slow_focal(x, truth):
    """Lin et al., eq. 5: -α_t (1 - p_t)^γ log p_t, averaged over the pixels."""
    total = 0.0
    for logit, inside in zip(x, truth, strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_t = p if inside else 1 - p
        total += -(0.25 if inside else 0.75) * (1 - p_t) ** 2 * math.log(p_t)
    return total / len(x)


def slow_dice(x, truth):
    """MaskFormer's: 1 - (2 Σ p t + 1) / (Σ p + Σ t + 1)."""
    p = [1 / (1 + math.exp(-logit)) for logit in x]
    both = sum(a * b for a, b in zip(p, truth, strict=True))
    return 1 - (2 * both + 1) / (sum(p) + sum(truth) + 1)


def test_costs_are_those_of_the_equations():
    logits, masks = torch.randn(4, 15) * 2, (torch.rand(3, 15) > 0.6).float()
    for costs, slow in ((mask_costs, slow_focal), (dice_costs, slow_dice)):
        expected = [[slow(x, t) for t in masks.tolist()] for x in logits.tolist()]
        torch.testing.assert_close(costs(logits, masks), torch.tensor(expected))


def test_costs_of_large_logits_are_finite():
    logits, masks = torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]])
    assert mask_costs(logits, masks).item() == pytest.approx((0.75 * 200 + 0.25 * 200) / 2)


@pytest.mark.parametrize("weights", [(20.0, 1.0), (1.0, 30.0)])
@pytest.mark.parametrize("queries", [2, 3, 5])
def test_no_assignment_is_cheaper(queries, weights):
    labels = torch.tensor([[0, 0, 1, 1], [0, 3, 1, IGNORE], [4, 3, 3, IGNORE]])  # 4: none
    logits = torch.randn(queries, 3, 4)
    target = set_target(labels, classes=4)
    known = [(y, x) for y in range(3) for x in range(4) if labels[y, x] != IGNORE]
    costs = {}
    for query, truth in itertools.product(range(queries), range(3)):
        x = [float(logits[query][place]) for place in known]
        mask = [float(labels[place] == (0, 1, 3)[truth]) for place in known]
        costs[query, truth] = weights[0] * slow_focal(x, mask)
        costs[query, truth] += weights[1] * slow_dice(x, mask)
    if queries >= 3:
        ways = [zip(r, range(3), strict=True) for r in itertools.permutations(range(queries), 3)]
    else:
        ways = [
            zip(range(queries), c, strict=True) for c in itertools.permutations(range(3), queries)
        ]
    cheapest = min((sum(costs[pair] for pair in way), way) for way in map(tuple, ways))
    rows, columns = match(logits, target, *weights)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == set(cheapest[1])


def test_cross_entropy_is_that_of_torch():
    torch.manual_seed(2)
    logits, masks = 3 * torch.randn(4, 30), (torch.rand(3, 30) > 0.4).float()
    costs = mask_costs(logits, masks, cross_entropy_terms)
    for n, t in np.ndindex(4, 3):
        expected = F.binary_cross_entropy_with_logits(logits[n], masks[t])
        assert costs[n, t].item() == pytest.approx(expected.item(), rel=1e-5)


def test_names_decide_between_equal_masks():
    labels = torch.tensor([[0, 0, 1, 1]])
    target = set_target(labels, 2)
    logits = torch.zeros(3, 1, 4)
    for wanted in ((2, 0), (1, 2)):
        costs = torch.zeros(3, 2)
        costs[wanted[0], 0] = costs[wanted[1], 1] = -0.1
        queries, truths = match(logits, target, name_costs=costs)
        assert dict(zip(truths.tolist(), queries.tolist(), strict=True)) == dict(enumerate(wanted))


def test_a_target_has_one_mask_for_each_class_and_none_for_the_rest():
    labels = torch.tensor([[2, 2, 0], [IGNORE, 3, 0]])
    target = set_target(labels, classes=3)
    assert target.classes.tolist() == [0, 2]
    assert target.masks.tolist() == [
        [[False, False, True], [False, False, True]],
        [[True, True, False], [False, False, False]],
    ]
    assert target.valid.tolist() == [[True, True, True], [False, True, True]]


@pytest.mark.parametrize("label", [3, IGNORE])
def test_a_photo_without_masks_has_no_pairs(label):
    rows, columns = match(torch.randn(4, 2, 2), set_target(torch.full((8, 8), label), classes=3))
    assert len(rows) == len(columns) == 0


def test_masks_are_compared_at_the_size_of_the_logits():
    labels = torch.zeros(8, 8, dtype=torch.long)
    labels[:, 4:] = 1
    logits = torch.tensor([[[-5.0, 5.0], [-5.0, 5.0]], [[5.0, -5.0], [5.0, -5.0]]])
    rows, columns = match(logits, set_target(labels, classes=2))
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}


def test_logits_that_are_not_numbers_are_left_to_the_loss():
    rows, _ = match(torch.full((3, 4, 4), torch.nan), set_target(torch.zeros(4, 4).long(), 2))
    assert len(rows) == 1


def test_without_scipy_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"scipy.*pip install 'ovseg-cli\[train\]'"):
        match(torch.randn(2, 4, 4), set_target(torch.zeros(4, 4).long(), 2))
