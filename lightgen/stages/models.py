"""Who may be judged beside the models of a recipe: the part `models` of `evaluate`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lightgen.config import RUN, Config
from lightgen.errors import ConfigError, InputCorrupt
from lightgen.evaluation.geneval_folder import read_folder
from lightgen.evaluation.published_rows import OWN, published_tables
from lightgen.generators.config import GeneratorConfig
from lightgen.problems import Problem
from schemas.report import PublishedTable


class GeneratorModel(Config):
    """A generator that draws the test captions; one of kind `student` draws with the checkpoint that it names."""

    kind: Literal["generator"] = "generator"
    generator: GeneratorConfig = Field(description="who draws")
    size_px: int | None = Field(
        default=None, ge=16, le=4096, description="side of its images; null: as the student was trained"
    )
    batch: int | None = Field(default=None, ge=1, description="images drawn at once; null: evaluate.batch_size")

    @model_validator(mode="after")
    def _sized(self) -> "GeneratorModel":
        if self.size_px is None and not self.generator.draws_with_checkpoint:
            raise ValueError(f"generator {self.generator.kind} has no size of its own: give size_px")
        return self

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: sides that the generator cannot draw."""
        what, fix = self.generator.cannot_draw(self.size_px, self.size_px) if self.size_px else ("", "")
        if what:
            yield Problem("recipe", "size_px", f"generator {self.generator.kind} {what}", fix)


class FolderModel(Config):
    """Pictures of the test captions that somebody else drew, in GenEval's layout of folders."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1, description="holds 00000/metadata.jsonl, 00000/samples/0000.png, …")
    licence: str = Field(default="unknown", description="of the pictures")

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a folder that cannot be read."""
        try:
            read_folder(Path(self.path))
        except InputCorrupt as error:
            yield Problem("here", "path", str(error), "put the pictures there, or leave the model out")


class PublishedModel(Config):
    """Figures that were printed by others: shown apart, marked as published and not run, and compared with nothing."""

    kind: Literal["published"] = "published"
    of: str = Field(
        default=OWN[0],
        min_length=1,
        description="lightgen: the tables of the paper; or a JSON file of tables in the same form",
        json_schema_extra=RUN,
    )
    tables: tuple[str, ...] = Field(default=(), description="which of its tables, by name; empty: all")

    def read(self) -> list[PublishedTable]:
        """The tables. Raises InputCorrupt, ConfigError."""
        return published_tables(self.of, self.tables)

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: tables that are not there."""
        try:
            self.read()
        except InputCorrupt as error:
            yield Problem("here", "of", str(error), "give `lightgen`, or a file of tables")
        except ConfigError as error:
            yield Problem("recipe", "tables", str(error), "name tables that there are")


Model = Annotated[GeneratorModel | FolderModel | PublishedModel, Field(discriminator="kind")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")]
