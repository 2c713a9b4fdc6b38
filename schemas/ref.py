"""The reference that travels between tasks in place of data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "captions",
    "sketches",
    "prompts",
    "links",
    "images",
    "scores",
    "kept",
    "vae",
    "texts",
    "features",
    "checkpoint",
    "pairs",
    "pair_features",
    "reference",
    "report",
    "audit",
]


class ArtifactRef(BaseModel):
    """Names one sealed version: a few hundred bytes of JSON, never the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    uri: str = Field(description="root of the store, a folder or s3://bucket/prefix")
    version: str = Field(pattern=r"^[0-9a-f]{32}$", description="digest of the recipe")
    content: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of rows, layout and content files")
    rows: int = Field(ge=0)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the sorted row digests")

    def __str__(self) -> str:
        return f"{self.kind}@{self.version[:12]}"
