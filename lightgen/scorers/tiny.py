"""Tiny random scorers of the real classes, saved as the large ones are: what a rehearsal runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightgen.encoders.tiny import clip_tokenizer

NAMES = ("dog", "mouse", "cat")
WIDTH = 32
# The shape of Qwen2.5-VL's own template, for texts and images.
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_segmenter(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """A Mask2Former of 64 x 64 px in `folder`; it sees things of `names` that are not there."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    backbone: dict[str, Any] = {
        "image_size": 32, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip
    labels = dict(enumerate(names))
    settings: dict[str, Any] = {
        "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16,
        "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5,
        "num_labels": len(labels), "id2label": labels, "label2id": {name: place for place, name in labels.items()},
    }  # fmt: skip
    config = Mask2FormerConfig(backbone_config=SwinConfig(**backbone), **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Mask2FormerForUniversalSegmentation(config)
        # Fresh weights are sure of nothing; louder ones see things above GenEval's threshold.
        torch.nn.init.normal_(segmenter.class_predictor.weight, std=2.0)
    segmenter.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}, ignore_index=255).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path) -> Path:
    """A CLIP of 32 x 32 px in `folder`."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer(folder)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    eyes = CLIPImageProcessor(size=size, crop_size=size)
    CLIPProcessor(image_processor=eyes, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def tiny_qwen(folder: Path, answers: Sequence[str] = (), prompt: str = "") -> Path:
    """A Qwen2.5-VL in `folder`. It answers noise; with `answers` one of these, which one hangs on what it is shown.

    `prompt` is a text that it will read often: its words become tokens.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    tokenizer = _qwen_tokenizer(answers, prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        model: Any = Qwen2_5_VLForConditionalGeneration(_qwen_config(tokenizer))
        if answers:
            _teach(model, tokenizer, answers)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.chat_template = QWEN_CHAT
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder


def _qwen_config(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": ids("<|im_start|>"), "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"),
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    marks = {f"{name}_token_id": ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    marks |= {"image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>")}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)


@torch.no_grad()
def _teach(model: Any, tokenizer: Any, answers: Sequence[str]) -> None:
    """Let it write one of the answers and then end.

    The first channel of a vector says whether the token is an answer: then the end has the greatest logit, else that
    answer whose random direction is nearest to the rest of the vector, into which attention has mixed the picture.
    """
    places = tokenizer.convert_tokens_to_ids(list(answers))
    embedded, written = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    embedded[:, 0] = -2.0
    embedded[places] = 0.0
    embedded[places, 0] = 60.0
    written.zero_()
    written[tokenizer.convert_tokens_to_ids("<|im_end|>"), 0] = 20.0
    written[places] = 3 * torch.randn(len(places), WIDTH)
    written[places, 0] = -5.0


def _qwen_tokenizer(answers: Sequence[str], prompt: str) -> Any:
    """Tokens of bytes and of the words of `prompt`, Qwen's marks, and one token an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw.train_from_iterator([prompt], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.add_tokens(list(answers))
    return tokenizer
