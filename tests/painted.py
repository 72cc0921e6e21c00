"""Pictures of one thing on a ground, and how well a mask fits it."""

import numpy as np


def disc(centre, radius, side=64):
    y, x = np.mgrid[:side, :side]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def painted(inside, colour, ground, seed=0):
    noise = np.random.default_rng(seed).normal(0, 12, (*inside.shape, 3))
    return (np.where(inside[..., None], colour, ground) + noise).clip(0, 255).astype(np.uint8)


def iou(found, truth):
    return (found & truth).sum() / (found | truth).sum()
