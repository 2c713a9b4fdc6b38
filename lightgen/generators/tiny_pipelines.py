"""Tiny random text-to-image pipelines of five classes: real classes and real tokenizers, saved as large ones are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightgen.encoders.tiny import clip_tokenizer, small_vae
from lightgen.generators.tiny_flux import flux_pipeline, t5_tokenizer

WIDTH, CROSS = 24, 24


def tiny_pipeline(folder: Path, name: str, seed: int = 7) -> Path:
    """A pipeline of the class `name`, one of TINY, in `folder`: it paints noise that depends on the caption."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        TINY[name](folder).save_pretrained(folder, safe_serialization=True)
    return folder


def _stable_diffusion(folder: Path) -> Any:
    """Without a safety checker, as its weights are often left out."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    tokenizer = clip_tokenizer(folder)
    nobody: Any = None
    return StableDiffusionPipeline(
        vae=_vae(4), text_encoder=_clip(tokenizer), tokenizer=tokenizer, unet=_unet(CROSS), scheduler=_ddim(),
        safety_checker=nobody, feature_extractor=nobody, requires_safety_checker=False,
    )  # fmt: skip


def _stable_diffusion_xl(folder: Path) -> Any:
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    tokenizer, tokenizer_2 = clip_tokenizer(folder), clip_tokenizer(folder)
    told = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 8,
    }  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=_vae(4), text_encoder=_clip(tokenizer), text_encoder_2=_clip(tokenizer_2, projects=True),
        tokenizer=tokenizer, tokenizer_2=tokenizer_2, unet=_unet(2 * CROSS, **told), scheduler=_ddim(),
        add_watermarker=False,
    )  # fmt: skip


def _stable_diffusion_3(folder: Path) -> Any:
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    tokenizer, tokenizer_2, tokenizer_3 = clip_tokenizer(folder), clip_tokenizer(folder), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=2 * WIDTH, caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH, pos_embed_max_size=32,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=_vae(16),
        text_encoder=_clip(tokenizer, projects=True), text_encoder_2=_clip(tokenizer_2, projects=True),
        text_encoder_3=_t5(tokenizer_3, 2 * WIDTH), tokenizer=tokenizer, tokenizer_2=tokenizer_2,
        tokenizer_3=tokenizer_3,
    )  # fmt: skip


def _pixart_sigma(folder: Path) -> Any:
    from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
    from diffusers.pipelines.pixart_alpha.pipeline_pixart_sigma import PixArtSigmaPipeline
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    tokenizer = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8,
        num_attention_heads=3, caption_channels=WIDTH, cross_attention_dim=24, use_additional_conditions=False,
    )  # fmt: skip
    scheduler: Any = DPMSolverMultistepScheduler()  # as the model is saved with; the annotation is an enumeration
    return PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=_t5(tokenizer, WIDTH), vae=_vae(4), transformer=transformer.eval(),
        scheduler=scheduler,
    )  # fmt: skip


TINY: dict[str, Callable[[Path], Any]] = {
    "StableDiffusionPipeline": _stable_diffusion,
    "StableDiffusionXLPipeline": _stable_diffusion_xl,
    "StableDiffusion3Pipeline": _stable_diffusion_3,
    "FluxPipeline": flux_pipeline,
    "PixArtSigmaPipeline": _pixart_sigma,
}


def _vae(channels: int) -> Any:
    return small_vae((8, 8, 12, 12), channels, 0.3611, 0.0).eval()


def _ddim() -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, set_alpha_to_one=False)


def _unet(cross: int, **told: Any) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 4,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": cross,
    }  # fmt: skip
    return UNet2DConditionModel(**settings, **told).eval()


def _clip(tokenizer: Any, projects: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=77, projection_dim=WIDTH, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projects else CLIPTextModel)(config).eval()


def _t5(tokenizer: Any, width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config).eval()
