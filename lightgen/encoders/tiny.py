"""Tiny models of the real classes, randomly initialised and saved as their large relatives are: what a rehearsal runs.

Weights depend on nothing but the arguments; torch's own generator stays as it is.
"""

import json
from pathlib import Path
from typing import Any

import torch

WORDS = "a an and the of on in red green blue two three cat dog circle square"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LAYERS = 2


def tiny_vae(folder: Path, channels: int = 16, reduction: int = 8) -> Path:
    """An AutoencoderKL in `folder`/vae, with SD3's shift and scale."""
    depth = reduction.bit_length()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = small_vae((8,) * (depth // 2) + (16,) * (depth - depth // 2), channels, 1.5305, 0.0609)
    model.save_pretrained(folder / "vae", safe_serialization=True)
    return folder


def small_vae(widths: tuple[int, ...], channels: int, scale: float, shift: float) -> Any:
    """An AutoencoderKL with a block for each of `widths`, each but the first halving the sides; of random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    settings: dict[str, Any] = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 1,
        "latent_channels": channels,
        "norm_num_groups": 4,
        "scaling_factor": scale,
        "shift_factor": shift,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return AutoencoderKL(**settings)


def tiny_bert(folder: Path, width: int = 24, words: str = WORDS) -> Path:
    """A model of sentences of `width` with a tokenizer of `words`, in `folder`, as sentence-transformers do."""
    from transformers import BertConfig, BertModel

    tokenizer = word_tokenizer(words)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=LAYERS, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=128,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        BertModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_t5(folder: Path, width: int = 24, words: str = WORDS) -> Path:
    """A T5 encoder of `width` with a tokenizer of `words`, in `folder`; narrow inside, however wide its vectors."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = word_tokenizer(words)
    tokenizer.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=40, num_layers=LAYERS, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        T5EncoderModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def word_tokenizer(words: str) -> Any:
    """A tokenizer with one token a word; every other word is one and the same."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", "<unk>", *dict.fromkeys(words.lower().split())]
    raw = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def clip_tokenizer(folder: Path) -> Any:
    """A real CLIP tokenizer: byte-pair encoding over letters only. `folder` holds files for the moment."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocab, merges = folder / "clip_vocab.json", folder / "clip_merges.txt"
    vocab.write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocab), str(merges), model_max_length=77)
    vocab.unlink()
    merges.unlink()
    return tokenizer
