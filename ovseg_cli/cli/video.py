"""`ovseg video`: clips and class names in, tinted clips, label maps, tables and time lines out."""

from __future__ import annotations

from typing import Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import compute_options
from ovseg_cli.cli.option_types import Listed, Real
from ovseg_cli.cli.options import (
    batch_size_option,
    common_options,
    outcome_options,
    vocabulary_options,
    with_other,
)
from ovseg_cli.cli.vocabulary_echo import echo_vocabulary
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.printable import quantity
from ovseg_cli.vocabulary import Vocabulary

DEFAULT_OUTPUT = "ovseg-video"
DEFAULT_SAVE = "overlay,labels,stats,timeline"
DEFAULT_SMOOTH = 0.85  # smoothing.STRENGTH, which cannot be imported as fast


class Seconds(click.ParamType):
    """Seconds, or [H:]M:S."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | None:
        """Check what was typed."""
        if value is None or isinstance(value, float):
            return value
        seconds = 0.0
        try:
            parts = [float(part) for part in value.split(":")]
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 3 or any(not 0 <= part < float("inf") for part in parts):
            self.fail(f"{value!r} is no time: seconds, M:S or H:M:S", param, ctx)
        for part in parts:
            seconds = 60 * seconds + part
        return seconds


@click.command("video", short_help="Tinted clips, label maps and tables of videos and cameras.")
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@vocabulary_options(auto=True)
@outcome_options(DEFAULT_OUTPUT)
@click.option(
    "--save",
    "saves",
    type=Listed("labels"),
    metavar="NAMES",
    default=DEFAULT_SAVE,
    show_default=True,
    help="What is written, separated by commas: overlay, labels (a PNG per frame), labels=video "
    "(one lossless FFV1 file), palette, masks, confidence (PNGs per frame), stats, timeline.",
)
@click.option("--start", type=Seconds(), default=0.0, metavar="TIME", help="Begin there.")
@click.option("--end", type=Seconds(), metavar="TIME", help="Stop there.")
@click.option(
    "--max-frames", type=click.IntRange(1), metavar="N", help="Stop after segmenting N frames."
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Segment only every N-th frame.",
)
@click.option(
    "--fps",
    type=Real(0, min_open=True),
    metavar="F",
    help="Segment at most F frames a second.",
)
@click.option(
    "--fill",
    type=click.Choice(["hold", "none"]),
    default="hold",
    show_default=True,
    help="The frames between go along with the last labels, or are left out.",
)
@click.option(
    "--smooth",
    type=Real(0, 1, max_open=True),
    default=DEFAULT_SMOOTH,
    show_default=True,
    metavar="S",
    help="Keep labels steady: the share of the past where it still fits the picture. 0 labels each "
    "frame for itself.",
)
@click.option(
    "--reuse",
    type=Real(0, 255),
    default=0.0,
    metavar="D",
    help="Save time where little changes: a frame takes the labels of the last one segmented if "
    "their colours differ by less than D (0 to 255) on average; 3, say, for a fixed camera.",
)
@click.option("--no-audio", is_flag=True, help="Leave the sound out of the tinted clip.")
@click.option(
    "--live",
    type=click.Choice(["drop", "wait"]),
    help="Of cameras and streams: drop the frames for which there is no time, or segment all.  "
    "[default: drop for cameras, wait for the rest]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where an earlier run was interrupted. Steady labels then lack half a percent of "
    "their past at most; more with --smooth above 0.98, for at most 301 frames are seen again.",
)
@click.option("--overwrite", is_flag=True, help="Remove an earlier run's results first.")
@compute_options()
@batch_size_option
@click.option("--json", "as_json", is_flag=True, help="A JSON object per frame on standard output.")
@click.option("--show", is_flag=True, help="Show the tinted frames in a window; q ends the clip.")
@common_options
def command(
    clips: tuple[str, ...],
    vocabulary: Vocabulary | None,
    other: str | None,
    compute: Compute,
    saves: tuple[str, ...],
    **options: Any,
) -> int:
    """Give every pixel of videos one of your class names, steady over time.

    CLIP is a video file, a folder of numbered pictures, the address of a stream, camera:0, or - for
    a video on standard input; of the last three the sound is left out. Its results bear its name:

    \b
      OUT/CLIP.overlay.mp4    the clip tinted by class, with its sound (H.264)
      OUT/CLIP.labels/000001.png ...  value = class id; 255 (16-bit: 65535) = unlabelled
      OUT/CLIP.labels.mkv     the same as one lossless video, with --save labels=video
      OUT/CLIP.stats.csv      pixels, share and mean confidence by frame and class
      OUT/CLIP.timeline.png   the share of each class over time
      OUT/CLIP.run.json       model, options, timing, counts
      OUT/classes.json        ids, names, synonyms and colours

    Frames are numbered from 1, as they come in the clip. An interrupted clip leaves a tinted clip
    of what was done, and --resume goes on.

    \b
    Exit codes: 0 all done, 1 some clips failed (each is named), 2 wrong usage,
    130 interrupted (143 by SIGTERM): what is there is whole.

    \b
    Example:
      ovseg video clip.mp4 --classes "person, dog, grass" --every 2 -o results
    """
    from pathlib import Path

    from ovseg_cli.cli import video_plan, video_run
    from ovseg_cli.clips.choice import Choice
    from ovseg_cli.clips.folder import check_saves
    from ovseg_cli.media.video_source import without_credentials

    if options["resume"] and options["overwrite"]:
        raise UsageError("--resume and --overwrite exclude each other")
    there = video_plan.there_of(clips)
    if vocabulary is None:
        from ovseg_cli.cli.auto_names import auto_vocabulary, sample_clips

        unread: list[InputError] = []
        vocabulary = auto_vocabulary(compute, sample_clips(there, unread), unread, other)
    labelled = with_other(vocabulary, other)
    check_saves(saves, labelled)
    plan = video_plan.Plan(
        clips=clips,
        vocabulary=vocabulary,
        other=other,
        threshold=options["threshold"],
        out=Path(options["output"]),
        saves=saves,
        choice=Choice(
            start=options["start"],
            end=options["end"],
            every=options["every"],
            rate=options["fps"],
            most=options["max_frames"],
            still=options["reuse"],
            hold=options["fill"] == "hold",
        ),
        smooth=options["smooth"],
        audio=not options["no_audio"],
        live=options["live"],
        resume=options["resume"],
        overwrite=options["overwrite"],
        compute=compute,
        batch_size=options["batch_size"],
        as_json=options["as_json"],
        show=options["show"],
        arguments=tuple(map(without_credentials, click.get_current_context().obj or ())),
    )
    video_plan.check(plan)
    echo_vocabulary(labelled, other, compute.rivals)
    console.note(f"{quantity(len(clips), 'clip')} to segment")
    return video_run.execute(plan)
