"""The corpora a recipe can name, told apart by `kind`."""

from typing import Annotated

from pydantic import Field

from lightgen.corpora.files import JsonlCorpus, ParquetCorpus, TableCorpus, TextCorpus
from lightgen.corpora.scenes import ScenesCorpus

CorpusConfig = Annotated[
    ScenesCorpus | ParquetCorpus | JsonlCorpus | TableCorpus | TextCorpus, Field(discriminator="kind")
]
