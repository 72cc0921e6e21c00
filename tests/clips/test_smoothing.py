"""Scores combined over time along motion."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ovseg_cli.clips.motion import Motion
from ovseg_cli.clips.smoothing import SmoothLabels
from ovseg_cli.frame import Frame
from ovseg_cli.model.score_map import GridScores, QueryScores
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

NAMES = Vocabulary(["left", "right"])
HW = (64, 96)
MAP_HW = (16, 24)
STRENGTH = 0.75


@dataclass
class Scored:
    """A segmenter whose scores are given by frame; keeps those that it is to turn into labels."""

    maps: list

    def __post_init__(self):
        self.smoothed = []

    def score_maps(self, frames):
        return [self.maps[frame.index] for frame in frames]

    def segmentation(self, scores, frame):
        self.smoothed.append(scores)
        return Segmentation(
            np.zeros(frame.size_hw, np.int32), np.ones(frame.size_hw, np.float32), NAMES
        )


def grid(values, span_hw=MAP_HW):
    return GridScores(torch.as_tensor(values, dtype=torch.float32), span_hw)


def random_grids(count, channels=3, size_hw=MAP_HW):
    draw = torch.Generator().manual_seed(0)
    return [grid(torch.rand(channels, *size_hw, generator=draw)) for _ in range(count)]


def textured(index=0, shift=0):
    """A picture of soft stripes that lies `shift` pixels further right."""
    y, x = np.mgrid[0 : HW[0], 0 : HW[1]]
    x = x - shift
    waves = 60 * np.sin(x / 5) + 50 * np.sin(y / 7 + x / 11)
    pixels = np.stack([128 + waves, 128 - waves, 128 + 40 * np.cos(x / 9 - y / 8)], -1)
    return Frame(pixels.clip(0, 255).astype(np.uint8), index)


def smoothed(segmenter, frames, before=None):
    labels = SmoothLabels(segmenter, STRENGTH)
    for frame in frames:
        labels.label(labels.look([frame], before))
        before = frame
    return [scores.probabilities for scores in segmenter.smoothed]


def test_a_still_picture_gets_a_running_mean():
    maps = random_grids(3)
    found = smoothed(Scored(maps), [textured(index) for index in range(3)])
    p = [m.probabilities for m in maps]
    expected = [p[0], 0.25 * p[1] + 0.75 * p[0]]
    expected.append(0.25 * p[2] + 0.75 * expected[1])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_batches_give_what_single_frames_give():
    frames = [textured(index, shift=2 * index) for index in range(4)]
    alone, together = Scored(random_grids(4)), Scored(random_grids(4))
    one_by_one = smoothed(alone, frames)
    labels = SmoothLabels(together, STRENGTH)
    labels.label(labels.look(frames[:3], None))
    labels.label(labels.look(frames[3:], frames[2]))
    for one, other in zip(one_by_one, together.smoothed, strict=True):
        torch.testing.assert_close(one, other.probabilities)


def test_scores_move_with_the_picture():
    """The past says "right" of a block; when all moved 8 pixels right, so has the block."""
    block = torch.zeros(3, *MAP_HW)
    block[1, 4:12, 6:12] = 1
    empty = torch.zeros(3, *MAP_HW)
    found = smoothed(Scored([grid(block), grid(empty)]), [textured(0), textured(1, shift=8)])
    kept = found[1][1]
    assert kept[5:11, 9:13].mean() > 0.6  # 2 numbers of the map further right
    assert kept[5:11, :7].max() < 0.2
    assert kept[5:11, 15:].max() < 0.2


def test_what_does_not_look_the_same_counts_alone():
    before, now = textured(0), textured(1)
    now.pixels[16:48, 32:64] = (255, 0, 0)
    maps = random_grids(2)
    found = smoothed(Scored(maps), [before, now])[1]
    torch.testing.assert_close(found[:, 5:11, 9:15], maps[1].probabilities[:, 5:11, 9:15])
    mean = 0.25 * maps[1].probabilities + 0.75 * maps[0].probabilities
    torch.testing.assert_close(found[:, :, 20:], mean[:, :, 20:], rtol=0.1, atol=0.02)


def test_a_scene_cut_begins_anew():
    other_scene = Frame(255 - textured(1).pixels[::-1], 1)
    maps = random_grids(2)
    found = smoothed(Scored(maps), [textured(0), other_scene])
    assert torch.equal(found[1], maps[1].probabilities)


def test_the_padding_of_a_map_is_left_where_it_is():
    """The picture covers 13 of 16 rows and 21 of 24 columns."""
    maps = [grid(m.probabilities, (13, 21)) for m in random_grids(2)]
    segmenter = Scored(maps)
    found = smoothed(segmenter, [textured(0), textured(1)])[1]
    assert [scores.span_hw for scores in segmenter.smoothed] == [(13, 21)] * 2
    assert found.shape == (3, *MAP_HW)
    mean = 0.25 * maps[1].probabilities + 0.75 * maps[0].probabilities
    torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5)


def test_scores_of_mask_proposals_are_smoothed_at_a_stride():
    draw = torch.Generator().manual_seed(1)
    maps = [
        QueryScores(
            torch.rand(5, 3, generator=draw), torch.randn(5, 16, 24, generator=draw), (62, 94)
        )
        for _ in range(2)
    ]
    segmenter = Scored(maps)
    found = smoothed(segmenter, [textured(0), textured(1)])
    assert [scores.span_hw for scores in segmenter.smoothed] == [(16, 24)] * 2
    assert found[0].shape == (3, 16, 24)
    whole = maps[0].rows(0, 62)
    assert found[0].sum() / found[0].numel() == pytest.approx(
        float(whole.sum() / whole.numel()), rel=0.02
    )


def test_maps_of_another_size_have_no_past():
    maps = [random_grids(1)[0], random_grids(1, size_hw=(8, 12))[0]]
    found = smoothed(Scored(maps), [textured(0), textured(1)])
    assert torch.equal(found[1], maps[1].probabilities)


def test_flow_is_scaled_from_the_thumbnail_to_the_map():
    from ovseg_cli.clips.smoothing import _follow

    past = torch.zeros(1, 10, 20)
    past[0, 4, 6] = 1
    flow = np.zeros((40, 80, 2), np.float32)
    flow[..., 0], flow[..., 1] = -8, 4  # 2 numbers to the left and 1 down in the map before
    moved = Motion(flow, np.ones((40, 80), np.float32))
    found, trusted = _follow(past, moved, (10, 20))
    assert found[0, 3, 8] == pytest.approx(1.0, abs=1e-5)
    assert found.sum() == pytest.approx(1.0, abs=1e-4)
    assert torch.all(trusted == 1)


def test_what_comes_into_the_picture_has_the_past_of_its_edge():
    """Of where it was before nothing is known, least of all that no class was there."""
    from ovseg_cli.clips.smoothing import _follow

    past = torch.arange(20.0).expand(1, 10, 20)
    flow = np.zeros((40, 80, 2), np.float32)
    flow[..., 0] = 20  # the picture has moved 5 numbers of the map to the left
    found, _ = _follow(past, Motion(flow, np.ones((40, 80), np.float32)), (10, 20))
    expected = torch.tensor([*range(5, 20), *[19] * 5], dtype=torch.float32)
    torch.testing.assert_close(found[0], expected.expand(10, 20))


def test_frames_of_another_size_have_no_past():
    small = textured(0)
    large = Frame(textured(1).pixels.repeat(2, axis=0), 1)
    maps = random_grids(2)
    found = smoothed(Scored(maps), [small, large])
    assert torch.equal(found[1], maps[1].probabilities)
