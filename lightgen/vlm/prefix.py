"""Several questions about the same pictures: the pictures are read once, and each question goes on from there.

A picture is a thousand tokens and a question some sixty, so twelve questions cost little more than one. What is kept
between are keys and values of the tokens that all texts begin with, one copy a question that is asked at once.
"""

import copy
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch

from lightgen.vlm.processor import Prepared, QwenProcessor


def common_start(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; at least one is left of each."""
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    return min(same, min(map(len, rows)) - 1)


@torch.inference_mode()
def logits_after(
    model: Any, processor: QwenProcessor, asked: Sequence[Prepared], device: str, at_once: int
) -> torch.Tensor:
    """Logits of the token after each text, [texts, tokens]. The texts begin alike, with all of the pictures."""
    ids = [processor.tokenizer(one.text)["input_ids"] for one in asked]
    start = common_start(ids)
    assert start > max(place for place, token in enumerate(ids[0]) if token == processor.image_token_id), (
        "pictures first"
    )
    begun = {name: value.to(device) for name, value in processor.inputs([asked[0]]).items()}
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        begun[name] = begun[name][:, :start]
    cache = model(**begun, use_cache=True, logits_to_keep=1).past_key_values
    first = start + int(model.model.rope_deltas[0, 0])
    rows = [torch.tensor(row[start:]) for row in ids]
    found = [
        _go_on(model, cache, rows[place : place + at_once], first, processor.tokenizer.pad_token_id, device)
        for place in range(0, len(rows), at_once)
    ]
    return torch.cat(found)


def _go_on(model: Any, cache: Any, rows: Sequence[torch.Tensor], first: int, pad: int, device: str) -> torch.Tensor:
    """Logits after the last token of each row, whose first token is at position `first`."""
    # Padding stands behind the rows: nothing before it sees it.
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad).to(device)
    count, longest = tokens.shape
    lengths = torch.tensor([len(row) for row in rows], device=device)
    positions = torch.arange(first, first + longest, device=device).expand(3, count, longest)
    own = copy.deepcopy(cache)
    own.batch_repeat_interleave(count)
    before = torch.ones(count, own.get_seq_length(), dtype=torch.long, device=device)
    there = (torch.arange(longest, device=device)[None] < lengths[:, None]).long()
    states = model.model(
        input_ids=tokens, attention_mask=torch.cat([before, there], dim=1), position_ids=positions,
        past_key_values=own, use_cache=True,
    ).last_hidden_state  # fmt: skip
    return model.lm_head(states[torch.arange(count, device=device), lengths - 1])
