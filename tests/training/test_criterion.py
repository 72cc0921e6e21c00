"""The losses against loops written from the equations of DeOP and MaskFormer."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.training.criterion import (
    SetCriterion,
    SetWeights,
    score_losses,
    soft_jaccard_loss,
)
from ovseg_cli.training.matcher import cross_entropy_terms, match, set_target

LABELS = torch.tensor(
    [
        [[0, 0, 1, 1], [0, 0, 1, 1], [3, 3, IGNORE, IGNORE], [3, 3, IGNORE, IGNORE]],
        [[2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2], [3, 3, 3, 3]],
    ]
)  # of the names 0, 1, 2; 3: none of them


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_set_losses(mask_logits, class_logits, labels, pairs, non_object):
    """Class, focal and dice loss of one layer, pixel by pixel."""
    K = class_logits.shape[-1] - 1
    focal = dice = nll = weights = 0.0
    masks = 0
    for b in range(len(labels)):
        large = F.interpolate(mask_logits[b][None], labels.shape[1:], mode="bilinear")[0]
        names = sorted(set(labels[b].flatten().tolist()) - {K, IGNORE})
        masks += len(names)
        answer = {}
        for query, truth in zip(*(side.tolist() for side in pairs[b]), strict=True):
            answer[query] = names[truth]
            loss, count, both, predicted, true = 0.0, 0, 0.0, 0.0, 0
            for label, logit in zip(
                labels[b].flatten().tolist(), large[query].flatten().tolist(), strict=True
            ):
                if label == IGNORE:
                    continue
                inside, p, count = label == names[truth], sigmoid(logit), count + 1
                if inside:
                    loss -= 0.25 * (1 - p) ** 2 * math.log(p)
                else:
                    loss -= 0.75 * p**2 * math.log(1 - p)
                both, predicted, true = both + p * inside, predicted + p, true + inside
            focal += loss / count
            dice += 1 - (2 * both + 1) / (predicted + true + 1)
        for query in range(class_logits.shape[1]):
            wanted = answer.get(query, K)
            weight = non_object if wanted == K else 1.0
            nll -= weight * float(class_logits[b, query].log_softmax(-1)[wanted])
            weights += weight
    return nll / weights, focal / masks, dice / masks


def test_set_prediction_follows_the_equations_layer_by_layer():
    layers = [(torch.randn(2, 4, 2, 2) * 2, torch.randn(2, 4, 4) * 2) for _ in range(3)]
    targets = [set_target(labels, classes=3) for labels in LABELS]
    weights = SetWeights(classes=1.5, mask=20.0, dice=2.0, non_object=0.1)
    expected = [0.0, 0.0, 0.0]
    for mask_logits, class_logits in layers:
        pairs = [match(m, t, 20.0, 2.0) for m, t in zip(mask_logits, targets, strict=True)]
        slow = slow_set_losses(mask_logits, class_logits, LABELS, pairs, non_object=0.1)
        expected = [a + b for a, b in zip(expected, slow, strict=True)]
    losses = SetCriterion(weights)(layers, targets)
    assert list(losses) == ["class", "mask", "dice"]
    assert float(losses["class"]) == pytest.approx(1.5 * expected[0], rel=1e-5)
    assert float(losses["mask"]) == pytest.approx(20 * expected[1], rel=1e-5)
    assert float(losses["dice"]) == pytest.approx(2 * expected[2], rel=1e-5)


def test_the_published_weights_are_the_default():
    assert SetWeights() == SetWeights(classes=1.0, mask=20.0, dice=1.0, non_object=0.1)


def test_what_is_ignored_has_no_influence():
    targets = [set_target(LABELS[0], classes=3)]
    logits, names = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4)
    changed = logits.clone()
    changed[..., 2:, 2:] = 50 * torch.randn(4, 2, 2)
    losses = [SetCriterion(SetWeights())([(x, names)], targets) for x in (logits, changed)]
    torch.testing.assert_close(losses[0], losses[1])


def test_photos_without_masks_teach_that_there_is_nothing():
    targets = [set_target(torch.full((4, 4), label), classes=3) for label in (3, IGNORE)]
    logits = torch.randn(2, 5, 2, 2, requires_grad=True)
    losses = SetCriterion(SetWeights())([(logits, torch.zeros(2, 5, 4))], targets)
    assert float(losses["class"]) == pytest.approx(math.log(4))
    assert losses["mask"].item() == losses["dice"].item() == 0
    sum(losses.values()).backward()
    assert not logits.grad.any()


def test_perfect_masks_and_names_cost_nearly_nothing():
    targets = [set_target(labels, classes=3) for labels in LABELS]
    mask_logits, class_logits = torch.full((2, 3, 4, 4), -20.0), torch.zeros(2, 3, 4)
    class_logits[..., 3] = 20.0
    for b, target in enumerate(targets):
        for query, (mask, name) in enumerate(zip(target.masks, target.classes, strict=True)):
            mask_logits[b, query][mask] = 20.0
            class_logits[b, query, 3], class_logits[b, query, name] = 0.0, 20.0
    losses = SetCriterion(SetWeights())([(mask_logits, class_logits)], targets)
    assert all(float(loss) < 1e-5 for loss in losses.values())


def test_names_have_a_say_where_they_should():
    """Two queries have the same mask; the one that has its name answers for it."""
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    mask_logits = torch.full((1, 2, 2, 2), 9.0)
    class_logits = torch.tensor(
        [[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]]
    )  # the second one is of class 0
    targets = [set_target(labels[0], 2)]
    with_names = SetCriterion(SetWeights(match_names=True))
    named = with_names([(mask_logits, class_logits)], targets)["class"].item()
    # The first one should be nothing: 9 beside 0, at a tenth of the weight.
    wrong, right = (math.log(2 + math.exp(9)) - logit for logit in (0, 9))
    assert named == pytest.approx((right + 0.1 * wrong) / 1.1, rel=1e-4)


def test_cross_entropy_in_place_of_the_focal_loss():
    torch.manual_seed(5)
    mask_logits, class_logits = 2 * torch.randn(2, 6, 4, 4), torch.randn(2, 6, 4)
    targets = [set_target(labels, 3) for labels in LABELS]
    weights = SetWeights(mask=5, mask_loss="cross_entropy")
    found = SetCriterion(weights)([(mask_logits, class_logits)], targets)["mask"].item()
    total = masks = 0.0
    for logits, target in zip(mask_logits, targets, strict=True):
        queries, truths = match(logits, target, 5, 1, terms=cross_entropy_terms)
        for query, truth in zip(queries, truths, strict=True):
            wanted = target.masks[truth][target.valid].float()
            total += F.binary_cross_entropy_with_logits(logits[query][target.valid], wanted).item()
            masks += 1
    assert found == pytest.approx(5 * total / masks, rel=1e-5)
    with pytest.raises(ValueError, match="mask_loss is 'huber', not one of focal, cross_entropy"):
        SetWeights(mask_loss="huber")


def test_half_precision_logits_are_summed_in_full():
    targets = [set_target(labels, classes=3) for labels in LABELS]
    layer = (torch.randn(2, 4, 4, 4).bfloat16(), torch.randn(2, 4, 4).bfloat16())
    full = SetCriterion(SetWeights())([tuple(x.float() for x in layer)], targets)
    with torch.autocast("cpu", torch.bfloat16):
        half = SetCriterion(SetWeights())([layer], targets)
    torch.testing.assert_close(half, full)


def slow_score_losses(scores, labels):
    """DeOP: P = sigmoid(3·S - 3), focal BCE over K+1 channels, 1 - dice over K."""
    B, channels, H, W = scores.shape
    focal, dice = 0.0, 0.0
    for b in range(B):
        both, both_sums = 0.0, 0.0
        for k in range(channels):
            for y in range(H):
                for x in range(W):
                    P = sigmoid(3 * float(scores[b, k, y, x]) - 3)
                    T = float(labels[b, y, x] == k)
                    clamped = min(max(P, 1e-4), 1 - 1e-4)
                    focal -= 0.25 * T * (1 - P) ** 2 * math.log(clamped)
                    focal -= 0.75 * (1 - T) * P**2 * math.log(1 - clamped)
                    if k < channels - 1:
                        both += P * T
                        both_sums += P + T
        dice += 1 - (2 * both + 1) / (both_sums + 1)
    return focal / (B * channels * H * W), dice / B


def test_score_losses_follow_the_equations():
    scores = torch.rand(2, 4, 3, 5) * 3
    scores[0, 0, 0, 0], scores[0, 1, 0, 0] = 30.0, -30.0  # where the clamp matters
    labels = torch.randint(4, (2, 3, 5))
    labels[0, 0, 0] = 1
    losses = score_losses(scores, labels)
    focal, dice = slow_score_losses(scores, labels)
    assert float(losses["focal"]) == pytest.approx(focal, rel=1e-5)
    assert float(losses["dice"]) == pytest.approx(dice, rel=1e-5)


def test_the_last_channel_has_no_part_in_the_dice():
    labels = torch.randint(4, (1, 3, 5))
    scores = torch.rand(1, 4, 3, 5)
    changed = scores.clone()
    changed[:, 3] += 1
    assert score_losses(scores, labels)["dice"] == score_losses(changed, labels)["dice"]
    assert score_losses(scores, labels)["focal"] != score_losses(changed, labels)["focal"]


def test_the_jaccard_loss_is_one_minus_intersection_over_union():
    """Of hard predictions it is the measure itself, counted here pixel by pixel."""
    draw = np.random.default_rng(0)
    labels = draw.integers(4, size=(2, 5, 7))
    labels[draw.random(labels.shape) < 0.2] = IGNORE
    labels[labels == 2] = 3  # class 2 is not shown
    predicted = draw.integers(4, size=labels.shape)
    ratios = []
    for k in (0, 1, 3):
        both = either = 0
        for label, guess in zip(labels.ravel(), predicted.ravel(), strict=True):
            if label != IGNORE:
                both += label == k and guess == k
                either += label == k or guess == k
        ratios.append(both / either)
    logits = 200.0 * F.one_hot(torch.from_numpy(predicted), 4).permute(0, 3, 1, 2)
    found = soft_jaccard_loss(logits, torch.from_numpy(labels)).item()
    assert found == pytest.approx(1 - np.mean(ratios), abs=1e-5)


def test_the_jaccard_loss_lies_between_where_the_model_doubts():
    labels = torch.zeros((1, 1, 4), dtype=torch.int64)
    logits = torch.zeros((1, 2, 1, 4))  # each class at a half: 2 of 4 pixels found
    assert soft_jaccard_loss(logits, labels).item() == pytest.approx(0.5)
