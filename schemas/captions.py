"""CAPTIONS: cleaned captions of one or more corpora, repeats included; written by stage `source`.

A row is a record of a corpus. Its id sorts as the records of a corpus stand, and stays when the corpus grows or moves.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field(
            "id", pa.string(), nullable=False, metadata={"is": "record: digest of source, its file, place in the file"}
        ),
        pa.field("caption_id", pa.string(), nullable=False, metadata={"is": "content hash of the cleaned caption"}),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False, metadata={"unit": "tokens of the student's text encoder"}),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)
