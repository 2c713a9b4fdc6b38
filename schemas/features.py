"""FEATURES and PAIR_FEATURES: VAE latent moments and text embeddings; written by `encode` and `encode_pairs`.

Latents are float16 [channels, height, width] of one image, or [2, channels, height, width] of winner and loser;
row-major, already shifted and scaled. The text is bfloat16 or float16 [text_tokens, text_dim], trimmed to its true
length.
"""

from math import prod

import pyarrow as pa


def schema(latent_shape: tuple[int, ...], text_dim: int, text_dtype: str, mirrored: bool = False) -> pa.Schema:
    """The Arrow schema for latents of `latent_shape` ([2,] channels, rows, columns) and a text encoder of `text_dim`.

    With `mirrored` there are moments of the mirrored image too, or, where the caption forbids it, the plain ones again.
    """
    latent = pa.binary(2 * prod(latent_shape))
    shape = {"shape": ",".join(map(str, latent_shape)), "dtype": "float16"}
    sides = ["latent_mean", "latent_std", *(["mirrored_mean", "mirrored_std"] if mirrored else [])]
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the image or pair"}),
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("caption", pa.string(), nullable=False),
            *(pa.field(name, latent, nullable=False, metadata=shape) for name in sides),
            pa.field(
                "text",
                pa.large_binary(),
                nullable=False,
                metadata={"shape": f"text_tokens,{text_dim}", "dtype": text_dtype},
            ),
            pa.field("text_tokens", pa.int32(), nullable=False, metadata={"unit": "tokens, no padding"}),
        ]
    )
