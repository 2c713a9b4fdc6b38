"""Tiny random vision-language models of the real classes, saved as the large ones are: what a rehearsal runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightgen.vlm.base import Asked
from lightgen.vlm.processor import QwenProcessor, conversation

WIDTH = 32
# The shape of Qwen2.5-VL's own template, for texts and images.
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_vlm(folder: Path, kind: str = "qwen2_5_vl", answers: Sequence[str] = (), prompt: str = "") -> Path:
    """A model of the architecture `kind` in `folder`. It answers noise; with `answers` one of these.

    Which one depends on what it is shown. `prompt` is a text that it will read often: its words become tokens.
    """
    from transformers import Qwen2VLImageProcessorPil

    tokenizer = _tokenizer(answers, prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        model = _model(kind, tokenizer).eval()
        tokenizer.chat_template = QWEN_CHAT
        tokenizer.save_pretrained(folder)
        Qwen2VLImageProcessorPil(patch_size=model.config.vision_config.patch_size).save_pretrained(folder)
        if answers:
            _teach(model, tokenizer, answers, QwenProcessor.from_folder(folder, model.config.image_token_id))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _model(kind: str, tokenizer: Any) -> Any:
    import transformers

    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": False, "head_dim": WIDTH // 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": ids("<|im_start|>"), "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"),
    }  # fmt: skip
    vision: dict[str, dict[str, Any]] = {
        "qwen2_vl": {"depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2},
        "qwen2_5_vl": {
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [1],
        },
        "qwen3_vl": {
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
            "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
        },
    }  # fmt: skip
    names = {
        "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration"),
        "qwen2_5_vl": ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"),
        "qwen3_vl": ("Qwen3VLConfig", "Qwen3VLForConditionalGeneration"),
    }
    settings, model = (getattr(transformers, name) for name in names[kind])
    marks = {f"{name}_token_id": ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    marks |= {"image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>")}
    made = model(settings(text_config=text, vision_config=vision[kind], tie_word_embeddings=False, **marks))
    made.generation_config.eos_token_id = ids("<|im_end|>")
    return made


@torch.no_grad()
def _teach(model: Any, tokenizer: Any, answers: Sequence[str], processor: QwenProcessor) -> None:
    """Let it write one of the answers and then end.

    The first channel of a vector says whether the token is an answer: then the end has the greatest logit, else that
    answer whose random direction is nearest to the rest of the vector, into which attention has mixed the picture. The
    directions leave out what all pictures share, so that no answer is given to all of them.
    """
    places = tokenizer.convert_tokens_to_ids(list(answers))
    embedded, written = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if name.endswith(("o_proj.weight", "down_proj.weight")) and "language_model" in name:
            parameter[0] = 0.0  # no layer writes to the first channel
    embedded[:, 0] = -2.0
    embedded[places] = 0.0
    embedded[places, 0] = 60.0
    written.zero_()
    written[tokenizer.convert_tokens_to_ids("<|im_end|>"), 0] = 20.0
    seen = _seen(model, processor)[:, 1:]
    shared = torch.linalg.svd(seen.mean(0, keepdim=True))[2][:1]
    directions = torch.randn(len(places), WIDTH - 1)
    directions -= directions @ shared.T @ shared
    written[places, 1:] = directions / (seen @ directions.T).std()
    written[places, 0] = -20.0


def _seen(model: Any, processor: QwenProcessor) -> torch.Tensor:
    """The last vectors of the model after some pictures, [pictures, channels]."""
    dice = np.random.default_rng(0)
    pictures = [dice.integers(0, 256, (1, 1, 3)) * dice.random((32, 32, 1)) for _ in range(8)]
    chats = [conversation(Asked((one.astype(np.uint8),), "Is it?")) for one in pictures]
    inputs = processor.inputs([processor.prepared(chat) for chat in chats])
    return model.model(**inputs).last_hidden_state[:, -1]


def _tokenizer(answers: Sequence[str], prompt: str) -> Any:
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
