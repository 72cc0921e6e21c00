"""What every model is to the rest of the program: photos and names in, regions and classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.config import MASKED, ModelConfig
from ovseg_cli.model.prompts import TextEncoder


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """A vocabulary as the model sees it: one row a phrase, one or more phrases a class."""

    features: Tensor  # (P, C), L2-normalised; shorter for what is shown by pictures
    class_of: Tensor | None = None  # (P,) int64 class of each phrase; None: phrase = class

    @property
    def classes(self) -> int:
        """K."""
        return len(self.features) if self.class_of is None else int(self.class_of.max()) + 1

    def to(self, device: torch.device) -> TextFeatures:
        """The same on another device."""
        class_of = None if self.class_of is None else self.class_of.to(device)
        return TextFeatures(self.features.to(device), class_of)

    def followed_by(self, more: TextFeatures) -> TextFeatures:
        """These classes, and after them others."""
        features = torch.cat([self.features, more.features])
        if self.class_of is None and more.class_of is None:
            return TextFeatures(features)
        return TextFeatures(features, torch.cat([self._ids(), more._ids() + self.classes]))

    def only(self, classes: Sequence[int]) -> TextFeatures:
        """Some of these classes, given in rising order."""
        chosen = torch.tensor(classes, device=self.features.device)
        if self.class_of is None:
            return TextFeatures(self.features[chosen])
        kept = torch.isin(self.class_of, chosen)
        return TextFeatures(self.features[kept], torch.searchsorted(chosen, self.class_of[kept]))

    def best(self, logits: Tensor) -> Tensor:
        """Logits (..., P+1) -> (..., K+1): those of classes are of their best phrase.

        The last column, non-object, stays.
        """
        if self.class_of is None:
            return logits
        phrases = logits[..., :-1]
        best = logits.new_full((*logits.shape[:-1], self.classes), -torch.inf)
        best = best.scatter_reduce(-1, self.class_of.expand_as(phrases), phrases, "amax")
        return torch.cat([best, logits[..., -1:]], -1)

    def _ids(self) -> Tensor:
        if self.class_of is not None:
            return self.class_of
        return torch.arange(len(self.features), device=self.features.device)


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Regions and what they are; `score_map` turns them into scores of pixels."""

    mask_logits: Tensor | None  # (B, Q, h, w) at `stride`; None: other regions than proposals
    class_logits: Tensor  # (B, Q, K+1), the last column non-object
    grid_hw: tuple[int, int]  # the visual encoder's patch grid
    stride: int = 4  # of the mask logits, pixels of the padded input
    sharp: bool = False  # a photo's scores come of mask logits at its size, not of smaller scores
    input_hw: tuple[int, int] | None = None  # of the padded input; None: `stride` times the masks'


class Network(nn.Module):
    """One pass through each network for all names and all masks.

    A model has its configuration, a text encoder whose `non_object_embedding` stands for what has
    no name, and says how it sees images; what regions are called is the same for all.
    """

    config: ModelConfig
    text: TextEncoder
    has_regions: bool = True

    def forward(
        self, images: Tensor, text: TextFeatures, proposals: str | None = None
    ) -> NetworkOutput:
        """Regions of normalised and padded images, and their class logits.

        images: (B, 3, H, W), H and W multiples of `config.input.size_divisibility`;
        proposals: "queries" (trained mask proposals, named by the model's own way) or "grid"
        (every patch for itself); None = the model's own.
        """
        raise NotImplementedError

    def patch_features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """Patch features (B, h, w, C) of normalised images, not normalised to unit length.

        mask_logits: (B, N, ., .) masks from elsewhere, for a severance that looks at masks; None =
        the model's own proposals, where it has them and is one that looks at them.
        """
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """One feature (B, C) of each normalised image as a whole, not normalised to unit length."""
        raise NotImplementedError

    def prepare(self, masks: bool) -> None:
        """Whatever is done once, before photos: for `forward`, or (masks) for masks from elsewhere.

        Raises UsageError for a network that cannot do it.
        """

    def image_encoder(self) -> list[nn.Module]:
        """The parts that patch and image features come of."""
        raise NotImplementedError

    def logit_factor(self) -> float | Tensor:
        """What cosines are multiplied by to be class logits."""
        raise NotImplementedError

    @property
    def names_by_patches(self) -> bool:
        """Whether features of patches name the regions, so that their attention matters."""
        return True

    @property
    def looks_at_masks(self) -> bool:
        """Whether patch features depend on masks."""
        return self.config.visual.severance in MASKED

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> the network's input."""
        mean, std = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (self.config.input.pixel_mean, self.config.input.pixel_std)
        )
        return (images - mean) / std

    def classify_patches(self, patches: Tensor, text: TextFeatures) -> NetworkOutput:
        """Every patch for itself: features (B, h, w, C) of any length."""
        return every_patch(self.patch_logits(patches, text))

    def classify_masks(self, patches: Tensor, masks: Tensor, text: TextFeatures) -> NetworkOutput:
        """Regions from elsewhere, named by the mean of their patches' features.

        patches: (B, h, w, C) of any length; masks: (B, Q, ., .) in [0, 1]. An empty
        mask has the feature zero.
        """
        patches = F.normalize(patches.float(), dim=-1)
        shares = F.interpolate(masks.float(), patches.shape[1:3], mode="area").flatten(2)
        means = shares @ patches.flatten(1, 2)  # (B, Q, C); their length does not matter
        logits = self.class_logits(F.normalize(means, dim=-1), text)
        return NetworkOutput(None, logits, grid_of(patches))

    def patch_logits(self, patches: Tensor, text: TextFeatures) -> Tensor:
        """Class logits (B, h, w, K+1) of patch features (B, h, w, C) of any length."""
        # The cosine's division comes last: K+1 numbers a patch are fewer than C.
        length = patches.float().norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return self.class_logits(patches, text) / length

    def class_logits(self, features: Tensor, text: TextFeatures) -> Tensor:
        """Scaled cosines (..., K+1) of unit features (..., C); the last column is non-object.

        A class of several phrases has the logit of its best one.
        """
        # At this scale bfloat16 would round logits to steps of up to a half.
        with torch.autocast(features.device.type, enabled=False):
            return text.best(features.float() @ self.directions(text).T)

    def directions(self, text: TextFeatures) -> Tensor:
        """What unit features are multiplied by to be logits (P+1, C): phrases, then non-object."""
        non_object = F.normalize(self.text.non_object_embedding, dim=-1)
        return self.logit_factor() * torch.cat([text.features, non_object])


def every_patch(logits: Tensor) -> NetworkOutput:
    """Class logits (B, h, w, K+1) of patches, each of which is a region."""
    return NetworkOutput(None, logits.flatten(1, 2), grid_of(logits))


def grid_of(patches: Tensor) -> tuple[int, int]:
    """Rows and columns of what patches have, (B, h, w, .)."""
    return patches.shape[1], patches.shape[2]
