"""A tiny random FLUX.1: the real classes and real tokenizers, saved as the large one is."""

from pathlib import Path
from typing import Any

import torch

from lightgen.encoders.tiny import LETTERS, clip_tokenizer, small_vae

WORDS = (
    "a an and the of on in to with red green blue yellow two three four cat dog circle square left right above below"
)


def tiny_flux(folder: Path, seed: int = 7) -> Path:
    """A FluxPipeline of about 100k parameters in `folder`; it paints coloured noise that depends on the caption."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flux_pipeline(folder).save_pretrained(folder, safe_serialization=True)
    return folder


def flux_pipeline(folder: Path) -> Any:
    """The pipeline itself; its weights come from torch's own generator."""
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    tokenizer, tokenizer_2 = clip_tokenizer(folder), t5_tokenizer()
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=77, projection_dim=24, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=len(tokenizer_2), d_model=20, d_kv=5, d_ff=32, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    vae, transformer = small_vae((8, 8, 12, 12), 16, 0.3611, 0.1159), _transformer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=CLIPTextModel(clip).eval(),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=tokenizer_2,
        transformer=transformer.eval(),
    )


def _transformer() -> Any:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=20,
        pooled_projection_dim=24,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )


def t5_tokenizer() -> Any:
    """A real T5 tokenizer: a unigram model of a few words and all letters."""
    from transformers import T5TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]  # made on import

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS.split()]
    pieces += [(letter, -6.0) for letter in LETTERS]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)
