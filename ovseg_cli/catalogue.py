"""Models that others publish: what they are, on which terms, and where their files lie.

Facts only; nothing here uses the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ovseg_cli.errors import UsageError

HUB = "https://huggingface.co"
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # the first that exists
CREDENTIALS = re.compile(r"^(\w+://)?.*@", re.DOTALL)  # of an address, after its scheme
QUERY = re.compile(r"[?#].*", re.DOTALL)  # and a fragment
OPEN_CLIP = re.compile(r"open_clip:([\w.-]+)/([\w.-]+)")


@dataclass(frozen=True)
class Published:
    """A model that becomes one of ours once its file is here."""

    name: str
    description: str
    architecture: str
    licence: str
    source: str  # a page about it
    accuracy: str  # and who measured it
    urls: tuple[str, ...] = ()  # of the file: the first that exists; none = not to be downloaded
    size_bytes: int | None = None  # about, before the server has said it
    sha256: str | None = None  # of the file; None = the hub says it when it is asked
    options: Mapping[str, Any] = field(default_factory=dict)  # of `authors_config.CLIP_OPTIONS`
    by_hand: str = ""  # how to get it where there is no URL


def catalogue() -> list[Published]:
    """All models that are known by name."""
    return [
        Published(
            name="mini",
            description="the bundled model, trained from scratch",
            architecture="small ResNet, context transformer and FPN to stride 4, text tower of 3 "
            "layers; 15 M parameters",
            licence="non-commercial research",
            source="weights/README.md of the project",
            accuracy="val mIoU: CamVid 0.61, LabelMeFacade 0.54, MSRC 0.70, VOC subset 0.18 "
            "(ovseg eval, weights/README.md)",
            by_hand="It comes with the package: install that anew.",
        ),
        Published(
            name="clip-vit-b-16",
            description="CLIP of OpenAI, each patch for itself",
            architecture="ViT-B/16 at 224, text tower 512 wide; 150 M parameters",
            licence="MIT",
            source="https://github.com/openai/CLIP",
            accuracy="ImageNet zero-shot 68.6 % (Radford et al., 2021, Table 11)",
            urls=_hub_urls("timm/vit_base_patch16_clip_224.openai"),
            size_bytes=599_000_000,
        ),
        Published(
            name="clip-vit-l-14",
            description="the larger CLIP of OpenAI, each patch for itself",
            architecture="ViT-L/14 at 224, text tower 768 wide; 428 M parameters",
            licence="MIT",
            source="https://github.com/openai/CLIP",
            accuracy="ImageNet zero-shot 75.3 % (Radford et al., 2021, Table 11)",
            urls=_hub_urls("timm/vit_large_patch14_clip_224.openai"),
            size_bytes=1_711_000_000,
        ),
        Published(
            name="clip-vit-b-16-laion2b",
            description="CLIP trained by LAION on LAION-2B, each patch for itself",
            architecture="ViT-B/16 at 224, text tower 512 wide; 150 M parameters",
            licence="MIT",
            source=f"{HUB}/laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
            accuracy="ImageNet zero-shot 70.2 % (its model card)",
            urls=_hub_urls("laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
            size_bytes=599_000_000,
            options={"gelu": "exact"},
        ),
        Published(
            name="san-vit-b-16",
            description="SAN as its authors trained it on 171 classes of COCO-Stuff",
            architecture="CLIP ViT-B/16 and a side adapter of 8 layers; 158 M parameters",
            licence="MIT",
            source="https://github.com/MendelXu/SAN",
            accuracy="mIoU: VOC-20 94.0, PC-59 53.8, A-150 27.5, PC-459 12.6, A-847 10.1 "
            "(Xu et al., 2023)",
            urls=(_hub_url("Mendel192/san", "san_vit_b_16.pth"),),
            size_bytes=631_000_000,
        ),
        Published(
            name="san-vit-l-14",
            description="the larger SAN, trained in the same way",
            architecture="CLIP ViT-L/14 at 336 and a side adapter of 8 layers; 437 M parameters",
            licence="MIT",
            source="https://github.com/MendelXu/SAN",
            accuracy="mIoU: VOC-20 94.6, PC-59 57.7, A-150 32.1, PC-459 15.7, A-847 12.4 "
            "(Xu et al., 2023)",
            urls=(_hub_url("Mendel192/san", "san_vit_large_14.pth"),),
            size_bytes=1_747_000_000,
        ),
        Published(
            name="deop-vit-b-16-r101c",
            description="DeOP as its authors trained it on 156 classes of COCO-Stuff",
            architecture="CLIP ViT-B/16, mask proposals of a MaskFormer with ResNet-101c",
            licence="none stated (the repository has no licence file)",
            source="https://github.com/CongHan0808/DeOP",
            accuracy="mIoU: VOC-20 91.7, PC-59 48.8, A-150 22.9, PC-459 9.4, A-847 7.1 "
            "(its README)",
            by_hand="The file lies on a file-sharing site that programs should not scrape: follow "
            "the link in the repository's README with a browser, then run "
            "`ovseg models import FILE --name deop-vit-b-16-r101c`.",
        ),
    ]


def lookup(name: str) -> Published:
    """A model of the catalogue, or any ViT that open_clip lists, as open_clip:ARCH/PRETRAINED.

    Raises UsageError for a name that nobody knows, and for an HF_ENDPOINT that is no address or
    holds more than one.
    """
    _check_endpoint()
    for entry in catalogue():
        if entry.name == name:
            return entry
    if found := OPEN_CLIP.fullmatch(name):
        return _of_open_clip(name, *found.groups())
    known = ", ".join(entry.name for entry in catalogue())
    raise UsageError(f"no published model {name!r}: there are {known}, open_clip:ARCH/PRETRAINED")


def _of_open_clip(name: str, architecture: str, tag: str) -> Published:
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    config = get_model_config(architecture)
    if config is None or "layers" not in config.get("vision_cfg", {}) or _no_vit(config):
        raise UsageError(f"{name}: open_clip has no plain ViT named {architecture}")
    if other := config["text_cfg"].get("hf_tokenizer_name"):
        raise UsageError(f"{name}: its text tower reads {other}'s tokens, not CLIP's")
    source = get_pretrained_cfg(architecture, tag)
    if not source:
        tags = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
        raise UsageError(f"{name}: open_clip knows these weights of {architecture}: {tags}")
    repository, _, file = source.get("hf_hub", "").rpartition("/")
    urls = (_hub_url(repository, file),) if file else _hub_urls(repository) if repository else ()
    quick = source.get("quick_gelu") or config.get("quick_gelu")
    vision, text = config["vision_cfg"], config["text_cfg"]
    options = {
        "visual_heads": vision["width"] // vision.get("head_width", 64),
        "text_heads": text["heads"],
        "gelu": "quick" if quick else "exact",
        "pixel_mean": [255 * value for value in source["mean"]],
        "pixel_std": [255 * value for value in source["std"]],
    }
    return Published(
        name=name,
        description=f"CLIP {architecture} of open_clip, weights {tag}, each patch for itself",
        architecture=architecture,
        licence="see its source",
        source=f"{HUB}/{repository}" if repository else source.get("url", ""),
        accuracy="see its source",
        urls=urls or tuple(filter(None, [source.get("url")])),
        options=options,
    )


def _no_vit(config: Mapping[str, Any]) -> bool:
    """Whether a tower of open_clip's is another kind of network than CLIP's."""
    vision, text = config["vision_cfg"], config.get("text_cfg", {})
    return (
        not isinstance(vision["layers"], int)
        or "timm_model_name" in vision
        or "hf_model_name" in text
        or "custom_text" in config
    )


def _hub_urls(repository: str) -> tuple[str, ...]:
    return tuple(_hub_url(repository, file) for file in HUB_FILES)


def _hub_url(repository: str, file: str) -> str:
    shown = QUERY.sub("", CREDENTIALS.sub(r"\1", _endpoint()))
    return f"{shown.rstrip('/')}/{repository}/resolve/main/{file}"


def _check_endpoint() -> None:
    """Raise UsageError, which does not show the value: any part of it may be secret."""
    endpoint = _endpoint()
    if any(sign in endpoint for sign in "@?#"):
        raise UsageError(
            "HF_ENDPOINT holds a user name, password, token or query, which ovseg neither sends "
            "nor shows: give the address alone, without '@', '?' and '#'. A file that cannot be "
            "had without becomes a model by `ovseg models import`"
        )
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of a bracket or a port
        valid = False
    if not valid or re.search(r"\s", endpoint):
        raise UsageError(
            "HF_ENDPOINT is no address of a server: give one such as https://mirror.example, or "
            "unset it for the hub itself"
        )


def _endpoint() -> str:
    """Of the hub, or of a mirror as the hub's own programs read it."""
    return os.environ.get("HF_ENDPOINT") or HUB
