"""SAN part by part and as a whole: recorded outputs of the authors' code, and its edges."""

import json
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from san_recording import Recorded

from ovseg_cli.model.build import config_from_dict
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.recognition import pool_biases, recognition_block
from ovseg_cli.model.san import SAN, TEMPLATES, SANConfig
from ovseg_cli.model.score_map import full_scores, score_map

NAMES = ("person", "traffic light", "grass", "wall-brick")
FUSED = {"": (0, 2, 4, 6), "large.": (0, 1, 2, 3)}
SIZES = list(FUSED)
CASES = [("", "main"), ("", "square"), ("", "padded"), ("", "batch"),
         ("large.", "main"), ("large.", "padded")]  # fmt: skip


@pytest.fixture(scope="session")
def san(shared_dir):
    """Reads one of the models by its prefix."""
    return lru_cache(maxsize=2)(lambda prefix: Recorded(shared_dir, prefix))


@pytest.fixture(scope="session")
def text(san):
    """The names' features by a model's prefix."""

    @lru_cache(maxsize=2)
    def encode(prefix):
        with torch.inference_mode():
            return TextFeatures(san(prefix).model.text.encode(NAMES))

    return encode


def test_prompts_are_the_recorded_ones(san):
    recorded = san("")
    assert recorded.about["templates"] == list(TEMPLATES)
    filled = [template.replace("{}", name) for template in TEMPLATES for name in NAMES]
    ids = recorded.model.text.tokenize(filled).view(14, 4, 77)
    assert torch.equal(ids, recorded.tensors["outputs.token_ids"].to(ids))


@pytest.mark.parametrize("prefix", SIZES)
def test_text_features(san, text, prefix):
    background = F.normalize(san(prefix).model.text.non_object_embedding.detach(), dim=-1)
    san(prefix).expect(torch.cat([text(prefix).features, background]), "text_features", 1e-5)


@pytest.mark.parametrize("prefix", SIZES)
def test_side_adapter(san, prefix):
    recorded = san(prefix)
    adapter = recorded.model.side_adapter
    images = recorded.input("side_adapter.image")
    clip = [recorded.input(f"side_adapter.clip_features.{k}") for k in FUSED[prefix]]
    with torch.inference_mode():
        for depth, tokens in enumerate(adapter.streams(images, clip)):
            recorded.expect(tokens, f"side_adapter.tokens_after_{depth}", 6e-5)
        mask_logits, biases = adapter(images, clip)
    assert depth == 8
    recorded.expect(mask_logits, "side_adapter.mask_preds", 1e-3)
    recorded.expect(biases, "side_adapter.attn_bias", 1e-3)


@pytest.mark.parametrize("prefix", SIZES)
def test_recognition(san, prefix):
    recorded = san(prefix)
    model, part = recorded.model, "rec_head."
    patches = recorded.input(part + "clip_features").flatten(2).transpose(1, 2)
    tokens = torch.cat([recorded.input(part + "cls_token")[:, None], patches], 1)
    biases = recorded.input(part + "attn_bias")
    with torch.inference_mode():
        pooled = pool_biases(biases, (5, 7))
        recorded.expect(pooled, part + "attn_bias_resized", 1e-6)
        x = torch.cat([tokens[:, :1].expand(-1, 24, -1), tokens], 1)
        for index, block in enumerate(model.visual.blocks[model.config.shallow_layers :]):
            x = recognition_block(block, x, pooled)
            recorded.expect(x, f"{part}tokens_after_{index}", 1e-4)
        features = model.recognise(tokens, biases, (5, 7))
    recorded.expect(features, part + "embedding_raw", 1e-4)
    recorded.expect(F.normalize(features, dim=-1), part + "embedding", 5e-5)


@pytest.mark.parametrize(("prefix", "case"), CASES)
def test_the_whole(san, text, prefix, case):
    recorded = san(prefix)
    model = recorded.model
    images, sizes, results = recorded.case(case)
    with torch.inference_mode():
        clip_images = model.clip_images(images)
        recorded.expect(clip_images, f"{case}.clip_input", 1e-4)
        streams, grid_hw = model.shallow(clip_images)
        for k in FUSED[prefix]:
            patches = streams[k][:, 1:].transpose(1, 2).unflatten(2, grid_hw)
            recorded.expect(patches, f"{case}.clip_features.{k}", 1e-4)
        deepest = model.config.shallow_layers
        recorded.expect(streams[-1][:, 0], f"{case}.clip_cls_token.{deepest}", 1e-4)
        mask_logits, biases = model.propose(images, streams, grid_hw)
        recorded.expect(biases, f"{case}.attn_bias", 1e-3)
        features = F.normalize(model.recognise(streams[-1], biases, grid_hw), dim=-1)
        recorded.expect(features, f"{case}.mask_embeddings", 5e-5)
        output = model(images, text(prefix))
        recorded.expect(output.mask_logits, f"{case}.mask_preds", 1e-3)
        recorded.expect(output.class_logits, f"{case}.class_logits", 1e-3)
        for index, (valid_hw, size_hw) in enumerate(zip(sizes, results, strict=True)):
            scores = full_scores(score_map(output, index, valid_hw, 16), size_hw)[:-1]
            recorded.expect(scores, f"{case}.{index}.sem_seg", 1e-3)
            labels = recorded.tensors[f"{prefix}outputs.{case}.{index}.sem_seg"].argmax(0)
            assert (scores.argmax(0) == labels).float().mean() >= 0.999


def test_a_configuration_survives_its_file():
    config = SANConfig(clip_scale=0.7)
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="kind 'nonsense'; there are deop, san"):
        config_from_dict({"kind": "nonsense"})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"shallow_layers": 12}, "12 shallow layers of a tower of 12"),
        ({"shallow_layers": 6}, r"fused layers \(0, 3, 6, 9\) after 6 shallow"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        SAN(replace(SANConfig(), **sizes))
