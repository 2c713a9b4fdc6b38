"""The JSON documents of the store: plan, receipt, manifest and refs entry; unknown fields are refused.

Nothing in them names a machine, a host or an absolute path, so a store can be moved or copied as a folder.

A version has three names. `version` is the digest of its plan: what a person would call the recipe. `content` is the
digest of what a child reads: the rows shard by shard, and the content files. `fingerprint` is the digest of the rows
alone, whatever their shards. A plan names its parents by kind and content, so a parent that is made again with the
same result does not rename its children.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from schemas.canonical import canonical_json
from schemas.ref import Kind

DIGEST = r"^[0-9a-f]{64}$"
VERSION = r"^[0-9a-f]{32}$"
FILE_PATH = r"^(data|index|digests|rejects|files)/part-\d{5}-of-\d{5}\.[0-9a-f]{16}\.[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$"
TAG = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

FileRole = Literal["table", "tar", "index", "digests", "rejects", "file", "extra"]
ROLE = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class Document(BaseModel):
    """A closed, frozen record with one canonical spelling."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def canonical(self) -> bytes:
        """The bytes that are stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))


class StoreMark(Document):
    """`store.json`: says that a folder is a store, and which."""

    format: Literal["lightgen-store"] = "lightgen-store"
    version: Literal[1] = 1
    store_id: str = Field(pattern=VERSION)


class Parent(Document):
    """What a version was made from, named by its content."""

    kind: Kind
    content: str = Field(pattern=DIGEST)
    rows: int = Field(ge=0)


class Source(Document):
    """The version that stood for a parent's content while a shard was made."""

    kind: Kind
    version: str = Field(pattern=VERSION)
    fingerprint: str = Field(pattern=DIGEST)


class Plan(Document):
    """The recipe of a version: everything that changes its content, and nothing else. Its digest is the name."""

    format: Literal[2] = 2
    kind: Kind
    stage: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    revision: int = Field(ge=1, description="of the stage; raised by hand when its results change")
    config: dict[str, JsonValue] = Field(description="content settings; members of families by their identity")
    seed: int
    parents: list[Parent] = []
    inputs: dict[str, JsonValue] = Field(default={}, description="digests of what is read from outside of the store")
    n_shards: int = Field(ge=1, le=99_999)

    @property
    def version(self) -> str:
        """32 hex digits that name the version."""
        return hashlib.sha256(self.canonical()).hexdigest()[:32]

    @property
    def folder(self) -> str:
        """Key of the version's folder in a store."""
        return f"v/{self.kind}/{self.version}"


class Provenance(Document):
    """`provenance/<digest>.json`: what a worker ran on. Shown to people; part of no name."""

    format: Literal[1] = 1
    commit: str = Field(description="git commit of the code, with `+` where files were changed; empty: no checkout")
    python: str
    libraries: dict[str, str]
    device: str = Field(description="cpu, or the name of the GPU")
    host: str = Field(description="class of the machine: system, processor, cores; never its name")

    @property
    def digest(self) -> str:
        """Its name."""
        return hashlib.sha256(self.canonical()).hexdigest()


class FileEntry(Document):
    """One immutable file of a shard, named by its content."""

    role: FileRole
    name: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$", description="plain name without shard and digest")
    path: str = Field(pattern=FILE_PATH, description="relative to the version's folder")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=DIGEST)
    rows: int = Field(ge=0, description="rows, or members of a tar; 0 for a plain file")

    @model_validator(mode="after")
    def _named_by_content(self) -> "FileEntry":
        if self.path.split(".")[1] != self.sha256[:16]:
            raise ValueError(f"{self.path} does not carry its own digest {self.sha256[:16]}")
        return self


class Receipt(Document):
    """`done/NNNNN.json`: the commit of one shard. The first receipt of a shard wins."""

    format: Literal[2] = 2
    version: str = Field(pattern=VERSION)
    shard: int = Field(ge=0)
    fingerprint: str = Field(pattern=DIGEST, description="digest of the sorted row digests of the shard")
    parents: list[Source] = Field(default=[], description="in the order of the plan's parents")
    provenance: str = Field(pattern=DIGEST)
    schema_sha256: str = Field(pattern=DIGEST)
    files: list[FileEntry]
    rows_in: int = Field(ge=0)
    rows_out: int = Field(ge=0)
    rows_rejected: int = Field(ge=0)
    reject_reasons: dict[str, int]
    rows_reused: int = Field(default=0, ge=0, description="rows that were taken from other versions, not made again")
    started_at: str
    seconds: float = Field(ge=0, description="wall time of the shard")

    @model_validator(mode="after")
    def _nothing_vanishes(self) -> "Receipt":
        if self.rows_in != self.rows_out + self.rows_rejected:
            raise ValueError(f"rows_in {self.rows_in} is not {self.rows_out} out + {self.rows_rejected} rejected")
        if sum(self.reject_reasons.values()) != self.rows_rejected:
            raise ValueError(f"reject_reasons do not add up to rows_rejected {self.rows_rejected}")
        return self


class Rows(Document):
    """Row counts of a version."""

    taken: int = Field(ge=0)
    out: int = Field(ge=0)
    rejected: int = Field(ge=0)


class Manifest(Document):
    """`manifest.json`: the commit of a version, made from plan and receipts only, so all committers agree."""

    format: Literal[2] = 2
    kind: Kind
    version: str = Field(pattern=VERSION)
    content: str = Field(pattern=DIGEST, description="digest of the shards' fingerprints and the content files")
    fingerprint: str = Field(pattern=DIGEST, description="digest of the sorted row digests")
    plan: Plan
    shards: list[Receipt]
    rows: Rows
    reject_reasons: dict[str, int]
    bytes_total: int = Field(ge=0)

    @model_validator(mode="after")
    def _adds_up(self) -> "Manifest":
        if self.plan.version != self.version or self.plan.kind != self.kind:
            raise ValueError(f"plan is of {self.plan.kind}@{self.plan.version}, not of {self.kind}@{self.version}")
        if [receipt.shard for receipt in self.shards] != list(range(self.plan.n_shards)):
            raise ValueError(f"shards are not 0 to {self.plan.n_shards - 1} in order")
        if any(receipt.version != self.version for receipt in self.shards):
            raise ValueError("a shard's receipt is of another version")
        out = sum(receipt.rows_out for receipt in self.shards)
        rejected = sum(receipt.rows_rejected for receipt in self.shards)
        if (self.rows.taken, self.rows.out, self.rows.rejected) != (out + rejected, out, rejected):
            raise ValueError(f"rows {self.rows} are not the sum of the shards: {out} out, {rejected} rejected")
        if self.bytes_total != sum(entry.bytes for receipt in self.shards for entry in receipt.files):
            raise ValueError("bytes_total is not the sum of the files")
        if self.content != content_digest(self.shards):
            raise ValueError("content is not the digest of the shards' fingerprints and the content files")
        return self


def content_digest(shards: Sequence[Receipt]) -> str:
    """Digest of all that a child of the version reads: rows shard by shard, and content files by name and sha256."""
    files = sorted([e.name, shard.shard, e.sha256] for shard in shards for e in shard.files if e.role == "file")
    return hashlib.sha256(canonical_json([[shard.fingerprint for shard in shards], files])).hexdigest()


class RefEntry(Document):
    """`refs/<kind>/NNNNNNNN.json`: one line of the log of a kind, chained to the line before."""

    format: Literal[2] = 2
    n: int = Field(ge=1)
    op: Literal["publish", "tag", "untag", "retire", "restore", "collect"]
    kind: Kind
    version: str = Field(pattern=VERSION)
    content: str = Field(pattern=DIGEST)
    fingerprint: str = Field(pattern=DIGEST)
    role: str = Field(default="", pattern=r"^$|" + ROLE, description="of a publish: what the run made it for")
    manifest_sha256: str = Field(pattern=DIGEST)
    tag: str = Field(default="", pattern=r"^$|" + TAG)
    at: str = Field(description="UTC, ISO 8601")
    prev_sha256: str = Field(pattern=r"^$|" + DIGEST, description="of the entry before; empty for the first")
