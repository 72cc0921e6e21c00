"""The models that others publish."""

import pytest

from ovseg_cli.catalogue import catalogue, lookup
from ovseg_cli.errors import UsageError


def test_each_says_terms_source_and_accuracy_and_how_to_get_it():
    for entry in catalogue():
        assert entry.licence and entry.accuracy and entry.architecture
        assert entry.source.startswith("https://") or entry.name == "mini"
        assert bool(entry.urls) != bool(entry.by_hand)
        assert all(url.startswith("https://") for url in entry.urls)
        assert lookup(entry.name) == entry


def test_the_hub_can_be_a_mirror(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    (first, second) = lookup("clip-vit-b-16").urls
    folder = "https://mirror.example/timm/vit_base_patch16_clip_224.openai/resolve/main/"
    assert first == f"{folder}open_clip_model.safetensors"
    assert second == f"{folder}open_clip_pytorch_model.bin"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://me:hf_SECRET@mirror.example",
        "https://hf_SECRET@mirror.example/hub",
        "https://me:hf_SECRET/1@2@mirror.example",
        "me:hf_SECRET@mirror.example",
    ],
)
def test_credentials_in_the_address_of_a_mirror_are_refused_and_not_shown(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    for name in ("clip-vit-b-16", "open_clip:ViT-B-16/openai"):
        with pytest.raises(UsageError, match="HF_ENDPOINT holds a user name") as raised:
            lookup(name)
        assert "hf_" not in str(raised.value)
    urls = [url for entry in catalogue() for url in entry.urls]
    assert urls and all("mirror.example/" in url for url in urls)
    assert not any("hf_" in url or "me:" in url for url in urls)


@pytest.mark.parametrize("rest", ["?token=SECRET", "/hub?token=SECRET", "#SECRET"])
def test_a_query_in_the_address_of_a_mirror_is_refused_and_not_shown(monkeypatch, rest):
    monkeypatch.setenv("HF_ENDPOINT", f"https://mirror.example{rest}")
    with pytest.raises(UsageError, match="HF_ENDPOINT holds .* query") as raised:
        lookup("clip-vit-b-16")
    assert "SECRET" not in str(raised.value)
    urls = [url for entry in catalogue() for url in entry.urls]
    assert any("mirror.example/" in url for url in urls) and "SECRET" not in "".join(urls)


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://[mirror.example", "https://mirror.example:port", "https://mirror.example:99999"),
        *("mirror.example", "https://", "https:///hub", "ftp://mirror.example", "https://a b"),
    ],
)
def test_a_mirror_that_has_no_address(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(UsageError, match="HF_ENDPOINT is no address of a server"):
        lookup("clip-vit-b-16")


@pytest.mark.parametrize(
    ("name", "repository", "gelu"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "exact"),
        ("ViT-B-16/openai", "timm/vit_base_patch16_clip_224.openai", "quick"),
    ],
)
def test_open_clips_own_list_tells_the_rest(name, repository, gelu):
    entry = lookup(f"open_clip:{name}")
    assert all(repository in url for url in entry.urls)
    assert entry.options["gelu"] == gelu
    assert (entry.options["visual_heads"], entry.options["text_heads"]) == (12, 8)
    assert entry.options["pixel_mean"] == pytest.approx([122.77, 116.75, 104.09], abs=0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "clip-vit-b-16.*open_clip:ARCH/PRETRAINED"),
        ("open_clip:RN50/openai", "no plain ViT named RN50"),
        ("open_clip:ViT-B-16-SigLIP/webli", "no plain ViT"),
        ("open_clip:nope/openai", "no plain ViT named nope"),
        ("open_clip:ViT-B-16/nope", "laion2b_s34b_b88k"),
        ("open_clip:ViT-H-14-worldwide/metaclip2_worldwide", "reads facebook/xlm-v-base's tokens"),
        ("open_clip:ViT-L-14-CLIPA/datacomp1b", "reads bert-base-uncased's tokens"),
    ],
)
def test_what_is_not_there(name, message):
    with pytest.raises(UsageError, match=message):
        lookup(name)
