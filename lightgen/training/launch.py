"""How a run is spread over processes. None of these settings changes what is computed, except for rounding."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Strategy = Literal["ddp", "fsdp"]


class LaunchConfig(BaseModel):
    """Processes of a training run, and what each of them does to save time or memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=1, ge=1, description="on each machine, usually its GPUs; more than one: torchrun")
    nodes: int = Field(default=1, ge=1, description="machines; each runs the same command")
    rendezvous: str | None = Field(default=None, description="host:port that all nodes reach, with nodes above 1")
    strategy: Strategy = Field(default="ddp", description="fsdp: parameters and optimizer are sharded too")
    accumulate: int = Field(default=1, ge=1, description="microbatches that a process's part of a batch is cut into")
    workers: int = Field(default=0, ge=0, description="processes that read features ahead, for each training process")
    compile: bool = Field(
        default=False,
        description="torch.compile blocks, and noise, head and errors as one piece; wants masks.visible_multiple",
    )
    recompute: bool = Field(default=False, description="compute blocks again in the backward pass: less memory")

    @model_validator(mode="after")
    def _valid(self) -> "LaunchConfig":
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError("nodes above 1 need a rendezvous, host:port of one of them")
        return self

    @property
    def size(self) -> int:
        """Training processes in all."""
        return self.processes * self.nodes
