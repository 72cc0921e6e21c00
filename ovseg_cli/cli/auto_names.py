"""`--classes auto`: names proposed by what the photos show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ovseg_cli.batch import options as batch_options
from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.options import with_shown
from ovseg_cli.cores import available_cores, keep_freed_memory, share_cores
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.names.naming import Proposal, evenly, propose
from ovseg_cli.names.nouns import common_nouns
from ovseg_cli.names.plurals import singulars
from ovseg_cli.printable import printable
from ovseg_cli.vocabulary import Vocabulary, comparable

if TYPE_CHECKING:
    from ovseg_cli.frame import Frame
    from ovseg_cli.media.inputs import ImageInput

_NOTHING = "none of the nouns"
_CLIP_FRAMES = 16  # of each clip that are looked at


def auto_vocabulary(
    compute: Compute,
    frames: Iterable[Frame],
    unread: list[InputError] | None = None,
    other: str | None = None,
) -> Vocabulary:
    """The names proposed for some photos, said in a form to be edited, and those of exemplars.

    unread as of `propose`; other: of --other. Proposals that mean what is typed there or shown by
    an exemplar are left out, in the plural, too. Raises UsageError where nothing is proposed.
    """
    unread = [] if unread is None else unread
    typed = [shown.name for shown in compute.exemplars] + (other.split("|") if other else [])
    meant = {form for phrase in typed for form in singulars(comparable(phrase))}
    found = [proposal.name for proposal in proposals(compute, frames, unread)]
    names = [name for name in found if meant.isdisjoint(singulars(comparable(name)))]
    vocabulary = with_shown(Vocabulary(names) if names else None, compute.exemplars)
    if not found or vocabulary is None:
        why = f" ({unread[0]})" if unread else ""
        raise UsageError(f"no names could be proposed{why}: name the classes with --classes")
    if names:
        console.note(f'names proposed, a start to be edited: --classes "{", ".join(names)}"')
    return vocabulary


def proposals(
    compute: Compute, frames: Iterable[Frame], unread: list[InputError] | None = None
) -> list[Proposal]:
    """What the photos show, by the nouns that come with the program; unread as of `propose`."""
    share_cores(batch_options.auto_streams("cpu", available_cores()))
    keep_freed_memory()
    nouns = Vocabulary(common_nouns())
    console.note(f"looking for {len(nouns)} common nouns")
    segmenter = replace(compute, exemplars=(), rivals=None).segmenter(nouns, other=_NOTHING)
    return propose(segmenter, frames, segmenter.phrase_features(), unread)


def sample_photos(
    images: Sequence[ImageInput],
    exif: bool = True,
    unread: list[InputError] | None = None,
    max_pixels: int | None = None,
) -> Iterator[Frame]:
    """Some of them, evenly spread; unread takes why others of these could not be read.

    exif, max_pixels: as of `read_image`.
    """
    from ovseg_cli.media.images import MAX_PIXELS, read_image

    unread = [] if unread is None else unread
    for position in evenly(images):
        try:
            yield read_image(images[position], exif=exif, max_pixels=max_pixels or MAX_PIXELS)
        except InputError as error:
            console.trace(error)
            unread.append(error)


def sample_clips(clips: Sequence[str], unread: list[InputError] | None = None) -> Iterator[Frame]:
    """Some frames of each; unread takes why clips could not be read, or not on to their end.

    Raises UsageError for a stream, which cannot be looked at twice.
    """
    from ovseg_cli.clips.names import is_stream
    from ovseg_cli.media.video import open_video
    from ovseg_cli.media.video_source import without_credentials

    unread = [] if unread is None else unread
    for source in filter(is_stream, clips):  # before the others are looked at
        shown = printable(without_credentials(source))
        raise UsageError(f"--classes auto cannot look ahead in {shown}")
    for source in clips:
        try:
            with open_video(source) as video:
                every = max(1, (video.info.frames or 0) // _CLIP_FRAMES)
                for frame in video.frames():
                    if frame.index % every == 0:
                        yield frame
                    if frame.index >= every * (_CLIP_FRAMES - 1):
                        break
        except InputError as error:
            console.trace(error)
            unread.append(error)
