"""The corpora a recipe can name, told apart by `kind`."""

from typing import Annotated

from pydantic import Field

from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus

CorpusConfig = Annotated[
    ScenesCorpus | ParquetCorpus | JsonlCorpus | TableCorpus | TextCorpus, Field(discriminator="kind")
]
