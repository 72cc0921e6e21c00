"""The text tower and prompts: recorded outputs, invariants, and names that do not fit."""

import json

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.errors import VocabularyError
from ovseg_cli.model import prompts
from ovseg_cli.model.bpe import tokenizer
from ovseg_cli.model.clip import TextTower
from ovseg_cli.model.config import TextConfig
from ovseg_cli.model.prompts import TextEncoder

SMALL = TextConfig(
    width=16, heads=2, layers=2, context=20, tokens=600, prompt_prefix=0, prompt_suffix=0
)
PROMPTED = TextConfig(
    width=16, heads=2, layers=2, context=20, tokens=600, prompt_prefix=3, prompt_suffix=2
)


@pytest.fixture(scope="module")
def about(shared_dir):
    """Names and templates of the recording."""
    return json.loads((shared_dir / "parity" / "text.json").read_text(encoding="utf-8"))


@pytest.fixture
def encoder(recording):
    """Builds the recorded encoder with one of its prompts: "" or "_8_4" or None."""

    def load(prompt: str | None) -> TextEncoder:
        text = recording("text")
        prefix, suffix = {"": (16, 0), "_8_4": (8, 4), None: (0, 0)}[prompt]
        config = TextConfig(width=64, heads=4, layers=3, prompt_prefix=prefix, prompt_suffix=suffix)
        encoder = TextEncoder(config, 32).eval()
        sparse = "sparse.clip_model.token_embedding.weight."
        table = torch.zeros(49408, 64)
        table[text[sparse + "row_ids"]] = text[sparse + "rows"]
        given = {"tower.token_embedding.weight": table}
        for part in encoder.prompt.state_dict() if encoder.prompt else ():
            kind = "prompt" if part.endswith("fix") else "signal"
            given[f"prompt.{part}"] = text[f"weights.prompt_learner{prompt}.{part}_{kind}"]
        text.load_into(encoder, "text.", "clip_adapter.", given)
        return encoder

    return load


def test_parity_token_ids(recording, encoder, about):
    text, plain = recording("text"), encoder(None)
    names = about["class_names"]
    assert torch.equal(plain.tokenize(names), text["outputs.token_ids.bare_names"])
    filled = [about["single_template"].replace("{}", name) for name in names]
    assert torch.equal(plain.tokenize(filled), text["outputs.token_ids.predefined_single"])


def test_parity_raw_features(recording, encoder):
    text = recording("text")
    with torch.inference_mode():
        raw = encoder(None).tower(text["outputs.token_ids.predefined_single"])
    expected = text["outputs.encode_text_raw.predefined_single"]
    torch.testing.assert_close(raw, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("prompt", "templates", "expected"),
    [
        ("", None, "learnable_16_0"),
        ("_8_4", None, "learnable_8_4"),
        (None, "single_template", "predefined_single"),
        (None, "vild_templates", "vild"),
        ("", "vild_templates", "vild"),  # templates given by the user come before the prompt
    ],
)
def test_parity_features(recording, encoder, about, prompt, templates, expected):
    texts = about[templates] if templates else None
    texts = [texts] if isinstance(texts, str) else texts
    with torch.inference_mode():
        features = encoder(prompt).encode(about["class_names"], texts)
    recorded = recording("text")[f"outputs.text_features.{expected}"]
    torch.testing.assert_close(features, recorded, atol=1e-4, rtol=0)


def test_parity_logits_with_non_object(recording, encoder, about):
    text, prompted = recording("text"), encoder("")
    with torch.inference_mode():
        features = prompted.encode(about["class_names"])
        non_object = F.normalize(prompted.non_object_embedding, dim=-1)
        features = torch.cat([features, non_object])
        logits = 100 * text["inputs.query_embeddings"] @ features.T
    expected = text["outputs.adapter_text_features.learnable_16_0"]
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)
    expected = text["outputs.sim_logits.learnable_16_0"]
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


def test_what_follows_the_end_has_no_influence():
    tower = TextTower(SMALL, 8)
    ids = torch.tensor([[598, 5, 6, 599, 0, 0, 0], [598, 5, 599, 7, 8, 9, 1]])
    alone = torch.tensor([[598, 5, 599]])
    with torch.inference_mode():
        features = tower(ids)
        torch.testing.assert_close(features[1:], tower(alone))
        # Embeddings in place of ids, with the ends told.
        embeddings = tower.token_embedding(ids)
        torch.testing.assert_close(tower(embeddings, torch.tensor([3, 2])), features)


def test_tower_equals_one_that_masks_every_later_token():
    """The whole context through torch's own attention with an explicit mask."""
    tower = TextTower(SMALL, 8)
    ids = torch.zeros(2, 20, dtype=torch.long)
    ids[0, :4] = torch.tensor([598, 5, 6, 599])
    ids[1, :3] = torch.tensor([598, 7, 599])
    later = torch.ones(20, 20, dtype=torch.bool).triu(1)
    with torch.inference_mode():
        x = tower.token_embedding(ids) + tower.positional_embedding
        for block in tower.blocks:
            mha = torch.nn.MultiheadAttention(16, 2, batch_first=True)
            mha.load_state_dict(block.attn.state_dict())
            y = block.ln_1(x)
            x = x + mha(y, y, y, attn_mask=later, need_weights=False)[0]
            x = x + block.mlp(block.ln_2(x))
        x = tower.ln_final(x)
        expected = torch.stack([x[0, 3], x[1, 2]]) @ tower.text_projection
        torch.testing.assert_close(tower(ids), expected)


def test_learned_prompt_stands_around_the_name():
    encoder = TextEncoder(PROMPTED, 8)
    table = encoder.tower.token_embedding.weight
    name = tokenizer(600).encode("cat")
    with torch.inference_mode():
        prompt = encoder.prompt(table[name])
    expected = [
        table[598:599], encoder.prompt.prefix, table[name], encoder.prompt.suffix,
        table[tokenizer(600).encode(".")], table[599:],
    ]  # fmt: skip
    assert torch.equal(prompt, torch.cat(expected))


def test_prompt_learns_while_its_signals_stay():
    encoder = TextEncoder(PROMPTED, 8)
    encoder.encode(["cat", "dog"])[0].sum().backward()
    assert encoder.prompt.prefix.grad.abs().sum() > 0
    assert {name for name, _ in encoder.prompt.named_parameters()} == {"prefix", "suffix"}


@pytest.mark.parametrize("config", [SMALL, PROMPTED])
def test_batches_do_not_change_features(config, monkeypatch):
    encoder = TextEncoder(config, 8)
    names = ["cat", "a long name of words", "dog", "sky", "an apple tree"]
    with torch.inference_mode():
        together = encoder.encode(names)
        monkeypatch.setattr(prompts, "BATCH", 2)
        torch.testing.assert_close(encoder.encode(names), together)
        alone = torch.cat([encoder.encode([name]) for name in names])
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5))


def test_templates_are_averaged_after_normalisation():
    encoder = TextEncoder(SMALL, 8)
    with torch.inference_mode():
        first, second = encoder.encode(["a red cat"]), encoder.encode(["the cat!"])
        both = encoder.encode(["cat"], ["a red {}", "the {}!"])
    torch.testing.assert_close(both, F.normalize(first + second, dim=-1))


def test_name_with_braces_is_not_a_template():
    encoder = TextEncoder(SMALL, 8)
    with torch.inference_mode():
        assert encoder.encode(["{0} {x}"], ["a {}"]).shape == (1, 8)


@pytest.mark.parametrize(
    ("config", "room", "templates"),
    [(SMALL, 18, None), (PROMPTED, 12, None), (SMALL, 18, ["see the {} here"])],
)
def test_name_beyond_the_context_is_named(config, room, templates):
    encoder = TextEncoder(config, 8)
    name = "x y " * 9 + "end"  # one token a letter, few merges
    with pytest.raises(VocabularyError) as caught:
        encoder.encode(["cat", name], templates)
    message = str(caught.value)
    assert repr(name) in message and f"takes {room}" in message
    count = len(tokenizer(600).encode(templates[0].replace("{}", name) if templates else name))
    assert f"{count} tokens" in message


def test_name_that_just_fits():
    encoder = TextEncoder(SMALL, 8)
    with torch.inference_mode():
        assert encoder.encode(["x " * 18]).shape == (1, 8)
        with pytest.raises(VocabularyError):
            encoder.encode(["x " * 19])


def test_message_about_a_huge_name_stays_short():
    with pytest.raises(VocabularyError) as caught:
        TextEncoder(SMALL, 8).encode(["x " * 5000])
    assert len(str(caught.value)) < 200
