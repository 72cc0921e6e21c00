"""Mask proposals without any training: superpixels, merged where features and colours are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame

SUPERPIXELS = 300  # about, in a photo
COMPACTNESS = 10.0  # of SLIC: the weight of nearness against colour
UNLIKE = 0.15  # neighbours that differ by less become one region
COLOUR = 0.5  # weight of a difference of 100 in CIELAB against features that are orthogonal


def find_regions(frame: Frame, features: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Disjoint masks (Q, H, W) bool that cover the photo.

    features: (h, w, C), unit vectors of the photo's patches; size_hw: of the masks.
    Raises UsageError where scikit-image is not installed.
    """
    try:
        from skimage.color import rgb2lab
        from skimage.graph import merge_hierarchical
        from skimage.segmentation import slic
    except ImportError as error:
        raise UsageError(
            f"--proposals regions needs scikit-image ({error}): pip install 'ovseg-cli[regions]'"
        ) from error
    photo = np.asarray(Image.fromarray(frame.pixels).resize(size_hw[::-1], Image.Resampling.BOX))
    lab = rgb2lab(photo)
    pieces = slic(photo, SUPERPIXELS, COMPACTNESS, start_label=0)
    graph = _neighbours(pieces)
    sizes = np.bincount(pieces.ravel())
    colours = np.stack([np.bincount(pieces.ravel(), c) for c in lab.reshape(-1, 3).T], 1)
    vectors = _shared(pieces, features)
    for piece, node in graph.nodes.items():
        node.update(labels=[piece], size=sizes[piece], lab=colours[piece], vector=vectors[piece])
    for one, other in graph.edges:
        graph.edges[one, other]["weight"] = _unlikeness(graph.nodes[one], graph.nodes[other])
    merged = merge_hierarchical(
        pieces,
        graph,
        thresh=UNLIKE,
        rag_copy=False,
        in_place_merge=True,
        merge_func=_merge,
        weight_func=lambda g, source, target, neighbour: {
            "weight": _unlikeness(g.nodes[target], g.nodes[neighbour])
        },
    )
    return merged == np.unique(merged)[:, None, None]


def _neighbours(pieces: np.ndarray) -> Any:
    """The graph of the pieces that share a border."""
    from skimage.graph import RAG

    graph = RAG()
    graph.add_nodes_from(range(int(pieces.max()) + 1))
    for one, other in ((pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])):
        pairs = np.stack([one[one != other], other[one != other]], 1)
        graph.add_edges_from(np.unique(np.sort(pairs, 1), axis=0).tolist())
    return graph


def _shared(pieces: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The features (h, w, C) summed over the pixels of each piece: (pieces, C)."""
    rows, columns = (
        np.arange(length) * patches // length
        for length, patches in zip(pieces.shape, features.shape[:2], strict=True)
    )
    patches = features.shape[0] * features.shape[1]
    patch = rows[:, None] * features.shape[1] + columns
    count = int(pieces.max()) + 1
    pixels = np.bincount((pieces * patches + patch).ravel(), minlength=count * patches)
    shares = pixels.reshape(count, patches).astype(features.dtype)
    return shares @ features.reshape(patches, -1)


def _unlikeness(one: dict[str, Any], other: dict[str, Any]) -> float:
    a, b = one["vector"], other["vector"]
    cosine = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
    colours = one["lab"] / one["size"] - other["lab"] / other["size"]
    return 1 - cosine + COLOUR * float(np.linalg.norm(colours)) / 100


def _merge(graph: Any, source: int, target: int) -> None:
    """Add one region to another, before the graph forgets it."""
    one, other = graph.nodes[source], graph.nodes[target]
    for key in ("size", "lab", "vector"):
        other[key] = other[key] + one[key]
