"""TEXTS: text embeddings, one for each prompt, however many images were drawn from it; written by stage `texts`.

A text is bfloat16 or float16 [text_tokens, text_dim], of its true length, or in 8 bits
(`lightgen.storage.quantised`): then it is read as one of these.
"""

import pyarrow as pa


def schema(text_dim: int, dtype: str, codec: str = "plain") -> pa.Schema:
    """The Arrow schema for a text encoder of `text_dim` channels."""
    stored = {"shape": f"text_tokens,{text_dim}", "dtype": dtype}
    stored |= {} if codec == "plain" else {"codec": codec}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the prompt"}),
            pa.field("caption", pa.string(), nullable=False),
            pa.field("text", pa.large_binary(), nullable=False, metadata=stored),
            pa.field("text_tokens", pa.int32(), nullable=False, metadata={"unit": "tokens, no padding"}),
        ]
    )
