"""Tiny models of the real classes, randomly initialised and saved as their large relatives are."""

from pathlib import Path

import torch


def tiny_vae(folder: Path) -> Path:
    """An AutoencoderKL with 16 channels, reduction 8 and SD3's shift and scale, in `folder`/vae."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(11)
    widths = (8, 8, 16, 16)
    model = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    model.save_pretrained(folder / "vae", safe_serialization=True)
    return folder


def tiny_t5(folder: Path) -> Path:
    """A T5 encoder of width 24 with a word tokenizer, in `folder`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(12)
    words = "a an and the of on in red green blue two three cat dog circle square"
    names = ["<pad>", "</s>", "<unk>"] + words.split(" ")  # noqa: RUF005  # a list of words reads better split
    raw = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(names), d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(folder, safe_serialization=True)
    return folder
