"""Where in a picture a thing is, from scores that are higher on it than around it.

The scores count relative to the picture's own, and GrabCut (Rother et al., SIGGRAPH 2004) moves the
outline to where colours change. Where the two disagree, nothing is said.
"""

from __future__ import annotations

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.media.opencv import load_opencv

LOWEST, HIGHEST = 5, 95  # percentiles of a picture's scores that count as 0 and 1
TELLING = 0.5  # logits that these must be apart at least; a picture with less tells nothing
CLEARLY_NOT = 0.6  # times the threshold: what is less is background from the start
ROUNDS = 3  # of GrabCut
THERE, NOT_THERE = 1, 0  # in a mask, beside IGNORE


def mark(image: np.ndarray, scores: np.ndarray, cover: tuple[float, float]) -> np.ndarray:
    """The mask (S, S) uint8 of one picture: THERE, NOT_THERE, or IGNORE where it is unsure.

    image: (S, S, 3) uint8 RGB; scores: (S, S) float; cover: least and most share of a picture that
    GrabCut's cut may have: outside of any other the mask is IGNORE, never NOT_THERE. Raises
    UsageError without OpenCV.
    """
    cv2 = load_opencv()
    low, high = np.percentile(scores, (LOWEST, HIGHEST))
    if high - low < TELLING:
        return np.full(scores.shape, IGNORE, np.uint8)
    surer = ((scores - low) / (high - low)).clip(0, 1)
    grey = (255 * surer).astype(np.uint8)
    threshold = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0] / 255
    there = surer > threshold
    seeds = np.full(scores.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[surer < CLEARLY_NOT * threshold] = cv2.GC_BGD
    seeds[there] = cv2.GC_PR_FGD
    seeds[surer > (1 + threshold) / 2] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # of this thread: the same cut at each call
    cv2.grabCut(
        np.ascontiguousarray(image[..., ::-1]),
        seeds,  # becomes the cut
        None,
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        ROUNDS,
        cv2.GC_INIT_WITH_MASK,
    )
    cut = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    mask = np.full(scores.shape, IGNORE, np.uint8)
    mask[there & cut] = THERE
    if cover[0] <= cut.mean() <= cover[1]:
        mask[~there & ~cut] = NOT_THERE
    return mask
