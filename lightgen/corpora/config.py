"""The corpora a recipe can name, told apart by `kind`."""

from typing import Annotated

from pydantic import Field

from lightgen.corpora.coco import CocoCorpus
from lightgen.corpora.conversations import ConversationsCorpus
from lightgen.corpora.hf_datasets import DatasetsCorpus
from lightgen.corpora.json_document import JsonCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.corpora.webdataset import WebdatasetCorpus

CorpusConfig = Annotated[
    ScenesCorpus
    | ParquetCorpus
    | JsonlCorpus
    | TableCorpus
    | TextCorpus
    | JsonCorpus
    | CocoCorpus
    | ConversationsCorpus
    | WebdatasetCorpus
    | DatasetsCorpus,
    Field(discriminator="kind"),
]
