"""Weights in the layout of the authors' published checkpoints, as a student (github.com/XianfengWu01/LightGen).

The layout is that of the class `FLUID` in models/fluid_arbitrary.py at commit 2792991: the same trunk, text path and
head under other names (model_facts 1.2 to 1.5). The number of attention heads is in no tensor.
"""

import math
import re
from collections.abc import Iterable, Mapping

from pydantic import ValidationError
from torch import Tensor

from lightgen.errors import ModelError
from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.student import Student

HEADS = {768: 12, 1024: 16, 1280: 16}  # by width: the three sizes that the authors' code names
# Tensors that tell the sizes, and how many dimensions each has.
NEEDED = {
    "z_proj.weight": 2,
    "last_pos_embed_learned": 3,
    "text_emb.text_proj.linear_1.weight": 2,
    "diffloss.net.input_proj.weight": 2,
    "encoder_blocks.0.mlp.fc1.weight": 2,
}
LISTED = 8  # names in an error
# Where the authors keep what we keep: lists of blocks, then single layers and parameters.
BLOCKS = {
    "text.blocks": "text_emb.text_aligner",
    "encoder": "encoder_blocks",
    "decoder": "decoder_blocks",
    "late": "cross_attn_blocks",
    "head.blocks": "diffloss.net.res_blocks",
}
LAYERS = {
    "text.project_in": "text_emb.text_proj.linear_1",
    "text.project_out": "text_emb.text_proj.linear_2",
    "text.norm": "text_emb.text_aligner_norm",
    "null_text": "fake_latent",
    "token_in": "z_proj",
    "token_norm": "z_proj_ln",
    "encoder_positions.table": "encoder_pos_embed_learned",
    "decoder_in": "decoder_embed",
    "decoder_positions.table": "decoder_pos_embed_learned",
    "late_in": "last_embed",
    "late_positions.table": "last_pos_embed_learned",
    "late_norm": "cross_norm",
    "head.time_in": "diffloss.net.time_embed.mlp.0",
    "head.time_out": "diffloss.net.time_embed.mlp.2",
    "head.condition": "diffloss.net.cond_embed",
    "head.token_in": "diffloss.net.input_proj",
    "head.last_modulation": "diffloss.net.final_layer.adaLN_modulation.1",
    "head.token_out": "diffloss.net.final_layer.linear",
}
# Inside blocks: of self-attention, of cross-attention, of the head. What is missing here has the same name.
INSIDE = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "query_norm": "normq",
    "text_norm": "normkv",
    "attention.query": "attn.query_linear",
    "attention.key_value": "attn.kv",
    "attention.proj": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "norm": "in_ln",
    "first": "mlp.0",
    "second": "mlp.2",
    "modulation": "adaLN_modulation.1",
}
BLOCK = re.compile(rf"({'|'.join(map(re.escape, BLOCKS))})\.(\d+)\.(.+)\.(weight|bias)")
LAYER = re.compile(rf"({'|'.join(map(re.escape, LAYERS))})(\.weight|\.bias|)")


def official_student(tensors: Mapping[str, Tensor], latent_channels: int, heads: int | None = None) -> Student:
    """The student of published weights, with the compat settings that they were trained under, in float32.

    Raises ModelError that names every tensor which is missing, left over, or of another shape.
    """
    wrong = {name: _trouble(value) for name, value in tensors.items()}
    _refuse("no weights", [f"{name}: {one}" for name, one in wrong.items() if one])
    student = Student(official_config(tensors, latent_channels, heads))
    ours = student.state_dict()
    names = {official_name(name): name for name in ours}
    _refuse("not in the file", sorted(names.keys() - tensors.keys()))
    _refuse("in the file, and no part of the published model", sorted(tensors.keys() - names.keys()))
    shapes = {name: (tuple(tensors[name].shape), tuple(ours[own].shape)) for name, own in names.items()}
    _refuse("of another shape", [f"{name}: {one} for {two}" for name, (one, two) in shapes.items() if one != two])
    student.load_state_dict({own: tensors[name].float() for name, own in names.items()})
    return student.eval()


def official_name(ours: str) -> str:
    """The authors' name of a parameter of ours."""
    if block := BLOCK.fullmatch(ours):
        stack, number, layer, kind = block.groups()
        return f"{BLOCKS[stack]}.{number}.{INSIDE.get(layer, layer)}.{kind}"
    layer = LAYER.fullmatch(ours)
    return ours if layer is None else LAYERS[layer[1]] + layer[2]


def official_config(tensors: Mapping[str, Tensor], latent_channels: int, heads: int | None = None) -> StudentConfig:
    """Sizes as the tensors have them; raises ModelError where they are none of this model."""
    _refuse("not in the file", [name for name in NEEDED if name not in tensors])
    flat = {name: tuple(tensors[name].shape) for name, rank in NEEDED.items() if tensors[name].ndim != rank}
    _refuse("of another shape", [f"{name}: {one} for {NEEDED[name]} dimensions" for name, one in flat.items()])
    tokens, cells, text, head, inner = (tensors[name].shape for name in NEEDED)
    width = tokens[0]
    patch = math.isqrt(tokens[1] // latent_channels)
    if patch**2 * latent_channels != tokens[1]:
        raise ModelError(f"tokens of {tokens[1]} numbers are no square patches of the VAE's {latent_channels} channels")
    if heads is None and width not in HEADS:
        raise ModelError(f"width {width} is none of the authors' sizes ({', '.join(map(str, HEADS))}): say --heads")
    depths = {stack: _depth(theirs, tensors) for stack, theirs in BLOCKS.items()}
    _refuse("not in the file", [f"{theirs}.0" for stack, theirs in BLOCKS.items() if not depths[stack]])
    sizes = {
        "width": width, "heads": heads or HEADS[width], "encoder_depth": depths["encoder"],
        "decoder_depth": depths["decoder"], "text_depth": depths["late"], "aligner_depth": depths["text.blocks"],
        "head_width": head[0], "head_depth": depths["head.blocks"], "text_dim": text[1], "patch": patch,
        "latent_channels": latent_channels, "grid": math.isqrt(cells[1]), "mlp_ratio": inner[0] / width,
    }  # fmt: skip
    try:
        return StudentConfig.model_validate(PRESETS["lightgen-official"].model_dump() | sizes)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
        raise ModelError(f"the tensors have sizes that no student has: {said}") from None


def _depth(stack: str, names: Iterable[str]) -> int:
    """Blocks in a stack; one that is missing between others, or numbered far from them, is not counted."""
    found = [re.match(rf"{re.escape(stack)}\.(\d+)\.", name) for name in names]
    return len({match[1] for match in found if match})


def _trouble(tensor: Tensor) -> str:
    if not tensor.is_floating_point():
        return str(tensor.dtype).removeprefix("torch.")
    return "" if tensor.isfinite().all() else "holds numbers that are not finite"


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise ModelError(f"{len(names)} tensors are {what}: {', '.join(names[:LISTED])}{more}")
