"""`python tests/many_inputs.py COUNT FOLDER`: a run over so many tiny photos, measured.

Prints as JSON how long it took, how much the process grew between a quarter of the photos and
all of them, and the longest time without a result; then the same for a run that finds all done.
"""

import gc
import json
import sys
import time
from pathlib import Path

from mock_segmenter import MockModel, MockSegmenter, make_photo

from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.exports import select
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["sky", "road", "car"])


def resident():
    """Bytes of memory of this process; Linux."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pass_over(images, root):
    """Seconds, growth in bytes, longest pause in seconds, statuses."""
    segmenter = MockSegmenter(MockModel(), VOCABULARY)
    output = OutputFolder(root, select(["labels"], VOCABULARY))
    began = time.perf_counter()
    output.open(VOCABULARY, run="run", metadata={})
    last = time.perf_counter()
    longest, before, statuses = 0.0, 0, {}
    results = batch.run(images, segmenter, output, batch_options.BatchOptions(streams=2))
    for number, result in enumerate(results):
        statuses[result.status] = statuses.get(result.status, 0) + 1
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        segmenter.batches.clear()  # the mock's own notes
        if number == len(images) // 4:
            before = resident()
            last = time.perf_counter()
    growth = resident() - before
    output.close()
    return {
        "seconds": time.perf_counter() - began,
        "growth": growth,
        "longest_pause": longest,
        "statuses": statuses,
    }


def main(count, folder):
    photo = make_photo(folder / "photo.png", (8, 8))
    images = [ImageInput(str(photo), f"{number // 1000:03}/{number}") for number in range(count)]
    print(json.dumps([pass_over(images, folder / "out"), pass_over(images, folder / "out")]))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
