"""How the tiny weights beside this file were made, once: `python -m tests.golden.draw_weights FOLDER [NAME ...]`.

Goldens read the files. To draw them again changes every output, so it is for a new member only.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lightgen.encoders.tiny import clip_tokenizer, tiny_bert
from lightgen.generators.tiny_flux import t5_tokenizer
from lightgen.model.config import StudentConfig
from lightgen.model.student import Student

STUDENT = StudentConfig(
    width=8, heads=2, encoder_depth=1, decoder_depth=1, text_depth=1, aligner_depth=1, head_width=8, head_depth=1,
    text_dim=6, latent_channels=4, patch=2, grid=4,
)  # fmt: skip
CLIP = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


# The shape of Qwen2.5-VL's own template, for texts and images.
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _qwen_tokenizer() -> Any:
    """One token a byte, and Qwen's marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


def save(model: Any, folder: Path) -> None:
    """Half of the bytes; whoever reads them without saying how gets float32."""
    model.half().save_pretrained(folder, safe_serialization=True)
    settings = json.loads((folder / "config.json").read_text())
    for key in settings.keys() & {"dtype", "torch_dtype"}:
        settings[key] = "float32"
    (folder / "config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")


def flux(folder: Path) -> None:
    """A FluxPipeline: its VAE, T5 and tokenizers serve the encoders too."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    tokenizer, tokenizer_2 = clip_tokenizer(folder), t5_tokenizer()
    clip = CLIPTextConfig(
        **CLIP, vocab_size=len(tokenizer), projection_dim=8, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=len(tokenizer_2), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(2, 2, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, latent_channels=16, norm_num_groups=2,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
        joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=vae,
        text_encoder=CLIPTextModel(clip), tokenizer=tokenizer, text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=tokenizer_2, transformer=transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    for name, part in {"vae": vae, "transformer": transformer}.items():
        save(part, folder / name)
    for name, part in {"text_encoder": CLIPTextModel(clip), "text_encoder_2": T5EncoderModel(t5)}.items():
        save(part, folder / name)


def mask2former(folder: Path) -> None:
    """A Mask2Former that sees something in noise, and a CLIP."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    swin = SwinConfig(
        image_size=32, embed_dim=4, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, mlp_ratio=1.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    segmenter = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=4,
            encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=4, num_queries=4, num_labels=3,
            id2label={0: "dog", 1: "mouse", 2: "cat"}, label2id={"dog": 0, "mouse": 1, "cat": 2},
        )
    )  # fmt: skip
    torch.nn.init.normal_(segmenter.class_predictor.weight, std=2.0)
    save(segmenter, folder / "segmenter")
    Mask2FormerImageProcessor(size={"height": 32, "width": 32}, ignore_index=255).save_pretrained(folder / "segmenter")
    tokenizer = clip_tokenizer(folder)
    text = {**CLIP, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    text |= {"eos_token_id": tokenizer.eos_token_id}
    vision = {**CLIP, "image_size": 32, "patch_size": 8}
    save(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)), folder / "colors")
    size = {"height": 32, "width": 32}
    eyes = CLIPImageProcessor(size=size, crop_size=size)
    CLIPProcessor(image_processor=eyes, tokenizer=tokenizer).save_pretrained(folder / "colors")


def qwen(folder: Path) -> None:
    """A Qwen2.5-VL whose tokenizer spells yes and no in three ways each."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    tokenizer = _qwen_tokenizer()
    tokenizer.add_tokens([" Yes", "YES", "yes", "No", " NO", " no"])
    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "bos_token_id": ids("<|im_start|>"),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 1, "out_hidden_size": 16}
    vision |= {"fullatt_block_indexes": [0], "patch_size": 7}
    marks = {f"{name}_token_id": ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    marks |= {"image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>")}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **marks)
    model = Qwen2_5_VLForConditionalGeneration(config)
    # Fresh weights answer much the same to everything.
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.eos_token_id = ids("<|im_end|>")
    save(model, folder)
    tokenizer.chat_template = QWEN_CHAT
    tokenizer.save_pretrained(folder)
    raw = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False) + "\n")
    Qwen2VLImageProcessorPil(patch_size=7).save_pretrained(folder)


def student(folder: Path) -> None:
    """Both weights of a checkpoint; fresh ones would draw nothing but noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("model", "ema")):
        one, dice = Student(STUDENT).init(seed), torch.Generator().manual_seed(seed)
        noisy = {key: value + 0.2 * torch.randn(value.shape, generator=dice) for key, value in one.state_dict().items()}
        save_file({key: value.half() for key, value in noisy.items()}, folder / f"{name}.safetensors")


def sentence(folder: Path) -> None:
    """A model of sentences."""
    tiny_bert(folder, 6)


if __name__ == "__main__":
    makers = {"flux": flux, "mask2former": mask2former, "qwen": qwen, "sentence": sentence, "student": student}
    for each in sys.argv[2:] or makers:
        torch.manual_seed(1)
        makers[each](Path(sys.argv[1]) / each)
