"""What of a clip's earlier frames the next one's labels depend on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from ovseg_cli.clips.records import FrameRecord

UNKNOWN = 0.005  # share of the past that may be left out, about
MOST = 300  # frames of it, at most


def past_frames(written: Iterable[FrameRecord], strength: float) -> deque[int]:
    """The indices of those to segment once more where a clip goes on after `written`.

    strength: of `SmoothLabels`; steady labels hold strength^n of what was n frames before. With 0
    it is one frame, whose labels others may hold.
    """
    count = 1
    if strength:
        count += min(math.ceil(math.log(UNKNOWN) / math.log(strength)), MOST)
    return deque((record.index for record in written if record.areas is not None), count)
