"""The recipe of stage "dense": in what parts it runs, and what it learns from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovseg_cli.data.bounds import COUNT, SEED, SHARE, SIDE, WEIGHT, require, require_scales
from ovseg_cli.data.mixture import shares_of
from ovseg_cli.model.config import OtherWeight
from ovseg_cli.training.group_names import NamesConfig
from ovseg_cli.training.photo_marks import PhotoMarksConfig
from ovseg_cli.training.picture_masks import PictureMasksConfig

GROUPS = 4  # data sets in one step: batch norm must not learn to tell them apart


@dataclass(frozen=True)
class Phase:
    """A part of the run with views of one size."""

    until: float  # share of all steps at which it ends; 1 of the last
    size: int  # side of a view, pixels
    batch: int  # views a step, a multiple of GROUPS
    sets: dict[str, float]  # how often a group comes from each set
    scales: tuple[float, float] = (0.5, 2.0)  # enlargement of a photo, smallest and largest

    def __post_init__(self) -> None:
        if self.batch < GROUPS or self.batch % GROUPS:
            raise ValueError(f"batch is a multiple of {GROUPS}, not {self.batch}")
        require(self, size=SIDE, until=SHARE)
        require_scales("scales", self.scales)
        shares_of(self.sets, self.sets)


@dataclass(frozen=True, kw_only=True)
class DenseConfig(NamesConfig):
    """What the stage learns from."""

    phases: tuple[Phase, ...]
    pixel_sets: dict[str, str]  # folder -> split to train on
    image_sets: dict[str, str] = field(default_factory=dict)
    focus_share: float = 0.5  # views that aim at a class drawn evenly
    paste_share: float = 0.0  # views into which a thing of another photo, of any set, is pasted
    grey_share: float = 0.0  # views that are black and white
    mix_shares: dict[str, float] = field(default_factory=dict)  # a set's views that are mixed
    weight_power: float = 0.4  # of the class weights; 0 = none
    weight_powers: dict[str, float] = field(default_factory=dict)  # of sets that have another
    jaccard_weight: float = 0.0  # of the soft Jaccard loss beside the cross-entropy
    mask_weight: float = 0.0  # of naming true masks through the class token; for a SAN
    picture_scales: tuple[float, float] = (1.0, 1.0)  # enlargement in mosaics, drawn; at least
    picture_masks: PictureMasksConfig | None = None  # how the model marks things in pictures
    photo_marks: tuple[PhotoMarksConfig, ...] = ()  # what it marks in photos beside their names
    guest_share: float = 0.0  # groups of photos into which guests are pasted, under their own names
    guests: tuple[str, ...] = ()  # classes marked in pictures that no name of the photos means
    # What non-object weighs in the losses of pixels, so that one feature serves few and many names.
    other_weight: OtherWeight = field(default_factory=OtherWeight)
    evaluate_size: int = 320  # shorter side of val photos
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise ValueError("phases: at least one is needed")
        if self.phases[-1].until < 1:
            raise ValueError(f"phases: the last one ends at {self.phases[-1].until}, not at 1.0")
        known = {*self.pixel_sets, *self.image_sets}
        unknown = {name for phase in self.phases for name in phase.sets} - known
        if unknown:
            raise ValueError(f"phases name sets that are not listed: {', '.join(sorted(unknown))}")
        for key in ("weight_powers", "mix_shares"):
            strangers = sorted(set(getattr(self, key)) - set(self.pixel_sets))
            if strangers:
                raise ValueError(f"{key}: {strangers[0]} is not among the pixel_sets")
        require(self, focus_share=SHARE, paste_share=SHARE, grey_share=SHARE, guest_share=SHARE)
        require(self, seed=SEED)
        require(self, jaccard_weight=WEIGHT, mask_weight=WEIGHT, evaluate_size=COUNT)
        require(self, mix_shares=SHARE, weight_power=WEIGHT, weight_powers=WEIGHT)
        require_scales("picture_scales", self.picture_scales)
