"""Windows and patches of any size: where a network's scores lie in a photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_models import PLAIN, PYRAMID, SMALL_SAN

from ovseg_cli.frame import Frame
from ovseg_cli.model.build import build
from ovseg_cli.model.network import Network, TextFeatures, every_patch
from ovseg_cli.model.score_map import full_scores
from ovseg_cli.scoring import Scorer

CPU = torch.device("cpu")
TEXT = TextFeatures(torch.eye(2, 16))


def with_patches(config, patch, divisibility, **more):
    """A model's configuration with another patch, padded to other multiples, at photos' sizes."""
    sizes = replace(config.input, min_size=None, size_divisibility=divisibility)
    visual = config.visual if patch is None else replace(config.visual, patch_size=patch)
    return replace(config, input=sizes, visual=visual, proposals="grid", **more)


class PatchMeans(Network):
    """Class logits of a patch are its mean colour: they depend on no other patch."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, images, text, proposals=None):
        """See `Network`."""
        scale = getattr(self.config, "clip_scale", 1.0)
        if scale != 1:
            images = F.interpolate(images, scale_factor=scale, mode="bilinear")
        side = self.config.visual.patch_size
        pyramid = self.config.visual.kind == "pyramid"
        return every_patch(F.avg_pool2d(images, side, ceil_mode=pyramid).permute(0, 2, 3, 1))


def scores(network, photo, **options):
    frame = Frame(photo)
    with torch.inference_mode():
        (found,) = Scorer(network, CPU, "fp32", **options).score_maps([frame], TEXT)
    return found, full_scores(found, frame.size_hw)


# Patch sides of 8, 14, 16, 4 and 20 pixels: whole numbers of pixels, so windows lie exactly.
GEOMETRIES = [
    *(with_patches(PLAIN, patch, step) for patch, step in ((8, 1), (14, 1), (16, 32), (16, 16))),
    *(with_patches(PYRAMID, None, step) for step in (4, 8)),
    *(with_patches(SMALL_SAN, 14, step, clip_scale=0.7) for step in (1, 32)),
]


@pytest.mark.parametrize("config", GEOMETRIES)
def test_windows_of_patches_give_what_the_whole_photo_gives(config):
    """Patches that see nothing but themselves: it does not matter in which window they are."""
    network, draw = PatchMeans(config), np.random.default_rng(3)
    for _ in range(25):
        height, width = draw.integers(40, 260, 2)
        photo = draw.integers(0, 256, (height, width, 3), np.uint8)
        whole, wanted = scores(network, photo)
        tile, overlap = int(draw.integers(1, 150)), float(draw.choice([0, 0.25, 0.5, 0.9]))
        tiled, found = scores(network, photo, tile=tile, overlap=overlap)
        assert (tiled.size_hw, tiled.span_hw) == (whole.size_hw, whole.span_hw)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_windows_that_end_within_a_patch_cover_the_photo():
    """Of that patch a window sees a part: its colour is another, but there is one everywhere."""
    network = PatchMeans(with_patches(PYRAMID, None, 1))
    for side in range(97, 105):
        photo = np.full((side, 203 - side, 3), 200, np.uint8)
        wanted = scores(network, photo)[1]
        torch.testing.assert_close(scores(network, photo, tile=50)[1], wanted, atol=0.03, rtol=0)


def test_windows_lie_within_half_a_pixel_where_patches_are_no_whole_pixels():
    """A photo whose colours rise evenly: a patch that is off would have another colour."""
    config = with_patches(SMALL_SAN, 16, 32, clip_scale=0.67)  # 23.88 pixels
    photo = np.zeros((256, 700, 3), np.uint8)
    photo[:] = (np.arange(700) // 3)[None, :, None] * [1, 0, 0]
    network = PatchMeans(config)
    whole = scores(network, photo)[1].log()
    steep = whole.diff(dim=-1).abs().max()  # from one pixel to the next
    difference = whole - scores(network, photo, tile=96)[1].log()
    assert difference.isfinite().all()
    assert difference.abs().max() <= steep


@pytest.mark.parametrize(
    ("scale", "size_hw"), [(0.67, (704, 352)), (0.67, (352, 352)), (0.7, (352, 352))]
)
def test_patches_lie_where_they_were_seen(scale, size_hw):
    """Each axis ends where its photo does: an edge between two colours stays where it is."""
    config = with_patches(SMALL_SAN, 16, 32, clip_scale=scale)
    side = 16 / scale
    for axis in (0, 1):
        # An edge between two patches, as far from the beginning as there are some after it.
        edge = side * (int(size_hw[axis] * scale) // 16 - 2)
        photo = np.zeros((*size_hw, 3), np.uint8)
        photo[(slice(None),) * axis + (slice(round(edge), None),)] = 255, 0, 0
        found = scores(PatchMeans(config), photo)[1][0]
        line = found.mean(1 - axis)
        middle = (line.max() + line.min()) / 2
        crossing = int((line > middle).nonzero()[0])
        assert abs(crossing - edge) <= 2


@pytest.mark.parametrize("tile", [96, 352])
def test_a_san_of_the_larger_published_geometry_sees_windows_to_the_edge(tile):
    torch.manual_seed(2)
    config = with_patches(SMALL_SAN, 14, 32, clip_scale=0.7)
    network = build(config).eval()
    coarse = np.random.default_rng(1).integers(0, 256, (5, 5, 3), np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize((640, 640), Image.Resampling.BICUBIC))
    _, wanted = scores(network, photo)
    found, tiled = scores(network, photo, tile=tile)
    assert tiled.isfinite().all()
    torch.testing.assert_close(tiled.sum(0), torch.ones(640, 640), atol=1e-4, rtol=0)
    scorer = Scorer(network, CPU, "fp32")
    with torch.inference_mode():
        one = scorer._tiled(scorer._prepared(Frame(photo)), TEXT, 640, False)
    torch.testing.assert_close(full_scores(one, (640, 640)), wanted, atol=1e-5, rtol=1e-5)
