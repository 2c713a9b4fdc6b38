"""REPORT: one row for each image of an evaluation, and `report.json` beside it; written by stage `evaluate`."""

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "hash of model name, prompt and index"}),
        pa.field("model", pa.string(), nullable=False, metadata={"is": "name of the row in the report's table"}),
        pa.field("task", pa.string(), nullable=False, metadata={"values": "GenEval's six tasks"}),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False, metadata={"is": "number among the images of one prompt"}),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False, metadata={"is": "why not, or empty"}),
        pa.field("image_id", pa.string(), metadata={"is": "null: the model drew none"}),
    ]
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """An estimate and its interval over prompts."""

    mean: float
    low: float
    high: float


class ModelScores(_Part):
    """One model: share of right images by task, and their unweighted mean."""

    name: str
    checkpoint: str | None = Field(description="content of its checkpoint; None: no student, or no training at all")
    images: int = Field(description="images that count: one that could not be drawn or scored counts as wrong")
    not_drawn: int = Field(default=0, description="of these, asked for and not drawn")
    not_scored: int = Field(default=0, description="of these, drawn and not scored")
    tasks: dict[str, Interval]
    overall: Interval


class Difference(_Part):
    """`name` minus `baseline` on the same prompts and seeds."""

    name: str
    baseline: str
    tasks: dict[str, Interval]
    overall: Interval

    @property
    def sure(self) -> bool:
        """Whether the overall interval excludes zero."""
        return not self.overall.low <= 0 <= self.overall.high


class Gate(_Part):
    """The same scores at another overlap: what the report says where a thing counts as recognised above `sure`."""

    sure: float = Field(description="least overlap (IoU) with the shape")
    models: list[ModelScores]
    differences: list[Difference]
    findings: list[str]


class Spread(_Part):
    """One model in the space of a feature network."""

    name: str
    images: int = Field(description="with features")
    frechet: float | None = Field(description="squared distance to the reference; null for the reference itself")
    mmd: float | None = Field(description="1000 times the squared MMD to the reference, biased; null as well")
    distance: Interval | None = Field(description="cosine distance of two samples of a prompt; null: one sample each")
    vendi: Interval | None = Field(description="effective number of distinct samples of a prompt")


class Halves(_Part):
    """The reference against itself, half of its prompts against the others: the level of no difference."""

    images: int = Field(description="of the smaller half")
    frechet: float | None
    mmd: float | None


class Likeness(_Part):
    """How like a reference the pictures of each model are, and how unlike one another those of one prompt."""

    network: str
    features: int = Field(description="numbers of a vector")
    reference: str
    reference_images: int
    halves: Halves
    models: list[Spread]


class Report(_Part):
    """`report.json`."""

    prompts: dict[str, int] = Field(description="prompts by task")
    samples_per_prompt: int
    verdict: str = Field(description="kind of the rules that say what is right")
    sure: float | None = Field(default=None, description="overlap that the verdict asks for; null: it asks for none")
    confidence: float = Field(description="of every interval")
    models: list[ModelScores]
    differences: list[Difference]
    findings: list[str] = Field(description="what alignment changed, in words")
    gates: list[Gate] = Field(default=[], description="the same scores at other overlaps")
    likeness: Likeness | None = Field(default=None, description="where the recipe names a feature network")


class PublishedRow(_Part):
    """What somebody printed about a model; nothing of it was run here."""

    model: str
    family: str = Field(default="", description="group of the table that it stands in")
    parameters: str = Field(default="", description="as printed")
    images: str = Field(default="", description="that it was trained on, as printed")
    tasks: dict[str, float] = Field(default={}, description="score by task, as printed; empty: none is")
    overall: float
    note: str = Field(default="", description="what is odd about the figures")


class PublishedTable(_Part):
    """A table of a publication, in its order."""

    source: str = Field(description="who printed it")
    name: str = Field(description="what it is called there")
    title: str = Field(description="under what the figures were obtained")
    size_px: int | None = Field(description="side of the images; null: each model has its own")
    rows: list[PublishedRow]


class Published(_Part):
    """`published.json`, where a recipe asks for it: published, not run."""

    tables: list[PublishedTable]
