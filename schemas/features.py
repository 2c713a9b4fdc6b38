"""FEATURES and PAIR_FEATURES: VAE latent moments; written by `encode` and `encode_pairs`. Their texts are TEXTS.

Latents are float16 [channels, height, width] of one image, or [2, channels, height, width] of winner and loser;
row-major, already shifted and scaled. Their deviations may be in 8 bits (`lightgen.storage.quantised`).
"""

from math import prod

import pyarrow as pa


def schema(latent_shape: tuple[int, ...], mirrored: bool = False, std_bytes: int | None = None) -> pa.Schema:
    """The Arrow schema for latents of `latent_shape` ([2,] channels, rows, columns); `std_bytes` a row in 8 bits.

    With `mirrored` there are moments of the mirrored image too, or, where the caption forbids it, the plain ones again.
    """
    latent = pa.binary(2 * prod(latent_shape))
    shape = {"shape": ",".join(map(str, latent_shape)), "dtype": "float16"}
    short = (pa.binary(std_bytes), {**shape, "codec": "log8"}) if std_bytes else (latent, shape)
    sides = ["latent_mean", "latent_std", *(["mirrored_mean", "mirrored_std"] if mirrored else [])]
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the image or pair"}),
            pa.field("prompt_id", pa.string(), nullable=False, metadata={"is": "id of its text in TEXTS"}),
            pa.field("caption", pa.string(), nullable=False),
            *(_moment(name, *(short if name.endswith("std") else (latent, shape))) for name in sides),
        ]
    )


def _moment(name: str, kind: pa.DataType, metadata: dict[str, str]) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata=metadata)
