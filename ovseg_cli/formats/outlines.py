"""Outlines of masks as polygons: along the pixels' edges, or through their centres."""

from collections.abc import Iterator, Sequence

import numpy as np

from ovseg_cli.media.opencv import load_opencv

Ring = np.ndarray  # (n, 2) int x, y; the last point is followed by the first


def edge_rings(mask: np.ndarray) -> Iterator[tuple[Ring, list[Ring]]]:
    """Outer ring and holes of each 8-connected region, along the edges of the pixels.

    mask: (H, W) bool. Points are corners of pixels, 0..W and 0..H, so that filling the rings
    (even-odd) gives the mask again, exactly.
    """
    # At twice the size each pixel's two columns tell its left edge from its right one.
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1)
    for outer, holes in _contours(doubled):
        yield _corners(outer), [_corners(hole) for hole in holes]


def joined_rings(mask: np.ndarray) -> Iterator[Ring]:
    """One ring for each 8-connected region, through the centres of its border pixels.

    mask: (H, W) bool. A hole is reached and left by a cut along a row of the region's own pixels:
    filled with its border drawn, as OpenCV's fillPoly does, the ring gives the region exactly.
    """
    for outer, holes in _contours(mask):
        yield _straightened(_joined(outer, holes, mask))


def _contours(mask: np.ndarray) -> Iterator[tuple[Ring, list[Ring]]]:
    cv2 = load_opencv()
    found, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for number, (_, _, child, parent) in enumerate(tree[0] if tree is not None else ()):
        if parent >= 0:
            continue
        holes = []
        while child >= 0:
            holes.append(found[child][:, 0])
            child = tree[0][child][0]
        yield found[number][:, 0], holes


def _corners(ring: Ring) -> Ring:
    """From pixels at twice the size to corners of pixels: 2x -> x, 2x + 1 -> x + 1."""
    return _straightened((ring + 1) // 2)


def _straightened(ring: Ring) -> Ring:
    """Without repeated points and those on the way straight on; points of return stay."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)] if len(ring) > 1 else ring
    steps = np.sign(ring - np.roll(ring, 1, axis=0))
    kept = ring[(steps != np.roll(steps, -1, axis=0)).any(axis=1)]
    return kept if len(kept) else ring


def _joined(outer: Ring, holes: Sequence[Ring], mask: np.ndarray) -> Ring:
    """From the leftmost point of each hole a cut goes left to whatever border is met first.

    That border's own leftmost point lies further left, so the cuts make a tree with the outer
    ring as its root, and from right to left every ring is complete before it is hung in another.
    """
    rings = [outer, *sorted(holes, key=lambda ring: int(ring[:, 0].min()))]
    places: dict[tuple[int, int], tuple[int, int]] = {}  # point -> ring, place in it
    if holes:
        for number, ring in enumerate(rings):
            for place, (x, y) in enumerate(ring.tolist()):
                places.setdefault((x, y), (number, place))
    hung: list[dict[int, list[Ring]]] = [{} for _ in rings]
    for number in range(len(rings) - 1, 0, -1):
        start = int(rings[number][:, 0].argmin())
        x, y = rings[number][start].tolist()
        outside = np.flatnonzero(~mask[y, :x])
        parent, place = places[(int(outside[-1]) + 1 if outside.size else 0, y)]
        path = _spliced(rings[number], hung[number], start)
        hung[parent].setdefault(place, []).append(np.concatenate([path, path[:1]]))
    return _spliced(outer, hung[0], 0)


def _spliced(ring: Ring, hung: dict[int, list[Ring]], start: int) -> Ring:
    """The ring from `start` on, with a way to each path that hangs at a place of it, and back."""
    ring = np.roll(ring, -start, axis=0)
    pieces, done = [], 0
    for place, paths in sorted(((p - start) % len(ring), paths) for p, paths in hung.items()):
        pieces.append(ring[done : place + 1])
        for path in paths:
            pieces += [path, ring[place : place + 1]]
        done = place + 1
    return np.concatenate([*pieces, ring[done:]])
