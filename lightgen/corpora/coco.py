"""COCO's annotations: one JSON document whose `annotations` are captions, several to an image, in any order."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from lightgen.corpora.json_document import JsonDocument


class CocoCorpus(JsonDocument):
    """The captions of `captions_train2017.json` and its like, each a record of its own."""

    REVISION: ClassVar[int] = 2
    kind: Literal["coco"] = "coco"
    field: str = Field(default="caption", description="that of the captions, in an annotation")

    @property
    def array(self) -> str:
        """See `JsonDocument.array`."""
        return "annotations"

    def record_of(self, row: int, caption: str | None) -> dict[str, Any]:
        """See `JsonDocument.record_of`."""
        return super().record_of(row, caption) | {"image_id": row // 5}
