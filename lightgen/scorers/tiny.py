"""Tiny random scorers of the real classes, saved as the large ones are: what a rehearsal runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightgen.encoders.tiny import clip_tokenizer

NAMES = ("dog", "mouse", "cat")


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
