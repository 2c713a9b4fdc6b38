"""LINKS: addresses of pictures with their captions and what a corpus says of them; written by stage `links`.

A row is a record of a corpus. Its id sorts as the records of a corpus stand, and stays when the corpus grows or moves.
What a corpus does not say is null.
"""

import pyarrow as pa

SCORES = ("similarity", "aesthetic", "punsafe", "pwatermark")
NUMBERS = ("width", "height", *SCORES)

SCHEMA = pa.schema(
    [
        pa.field(
            "id", pa.string(), nullable=False, metadata={"is": "record: digest of source, its file, place in the file"}
        ),
        pa.field("caption_id", pa.string(), nullable=False, metadata={"is": "content hash of the cleaned caption"}),
        pa.field("url", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False, metadata={"is": "of the URL, lower case, in ASCII"}),
        pa.field("width", pa.int32(), metadata={"unit": "px", "is": "as the corpus says"}),
        pa.field("height", pa.int32(), metadata={"unit": "px", "is": "as the corpus says"}),
        pa.field("similarity", pa.float32(), metadata={"is": "cosine of picture and caption by CLIP"}),
        pa.field("aesthetic", pa.float32(), metadata={"range": "about 0 to 10"}),
        pa.field("punsafe", pa.float32(), metadata={"range": "0 to 1"}),
        pa.field("pwatermark", pa.float32(), metadata={"range": "0 to 1"}),
        pa.field("language", pa.string()),
        pa.field("nsfw", pa.string(), metadata={"is": "verdict of LAION's first releases, such as UNLIKELY"}),
        pa.field("uid", pa.string(), metadata={"is": "DataComp's uid; else LAION's hash or SAMPLE_ID as a number"}),
        pa.field("sha256", pa.string(), metadata={"is": "digest that the file must have"}),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)
