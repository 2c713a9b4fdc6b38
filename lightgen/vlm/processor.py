"""Chats with pictures as inputs of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

What the published processors make of them, without the parts for videos, which want torchvision: pictures through the
Pillow image processor, and as many image tokens as it cuts a picture into.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lightgen.vlm.base import NO, YES, Asked, spells


def conversation(asked: Asked) -> list[dict[str, Any]]:
    """The chat that asks one question."""
    parts = [{"type": "image", "image": Image.fromarray(picture)} for picture in asked.pictures]
    turn = {"role": "user", "content": [*parts, {"type": "text", "text": asked.text}]}
    return [*([_system(asked.system)] if asked.system else []), turn]


def _system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": "text", "text": text}]}


@dataclass(frozen=True)
class Prepared:
    """A question as a model reads it: its text in tokens, and its pictures in patches with [t, h, w] of each."""

    text: str
    tokens: int
    patches: torch.Tensor
    grids: torch.Tensor


@dataclass(frozen=True)
class QwenProcessor:
    """Tokenizer, image processor and template of a chat; `image_token` stands for a picture in a text."""

    tokenizer: Any
    images: Any
    template: str
    image_token: str

    @classmethod
    def from_folder(cls, folder: Path, image_token_id: int, pixels: tuple[int, int] | None = None) -> "QwenProcessor":
        """That of a model on this machine; `pixels` are the least and the most of a picture.

        Raises OSError, ValueError.
        """
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Answers are read off the end of each row, so padding must stand before the prompt.
        tokenizer.padding_side = "left"
        bounds: dict[str, Any] = {"min_pixels": pixels[0], "max_pixels": pixels[1]} if pixels else {}
        images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True, **bounds)
        image_token = tokenizer.convert_ids_to_tokens(image_token_id)
        return cls(tokenizer, images, _template(folder) or tokenizer.chat_template, image_token)

    @property
    def image_token_id(self) -> int:
        """Number of the token that stands for a part of a picture."""
        return self.tokenizer.convert_tokens_to_ids(self.image_token)

    def prepared(self, chat: list[dict[str, Any]], like: Prepared | None = None) -> Prepared:
        """One chat, of which each picture is a part {"type": "image", "image": ...}; `like` has the same pictures."""
        pictures = [part["image"] for turn in chat for part in turn["content"] if "image" in part]
        if like is None:
            found = self.images(images=pictures, return_tensors="pt")
            seen = {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}
        else:
            seen = {"pixel_values": like.patches, "image_grid_thw": like.grids}
        counts = (seen["image_grid_thw"].prod(dim=1) // self.images.merge_size**2).tolist()
        text = self._text(chat, counts)
        tokens = len(self.tokenizer(text)["input_ids"])
        return Prepared(text, tokens, seen["pixel_values"], seen["image_grid_thw"])

    def inputs(self, batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """What the model takes of several chats together."""
        read = dict(self.tokenizer([one.text for one in batch], padding=True, return_tensors="pt"))
        where = read["input_ids"] == self.image_token_id
        patches, grids = torch.cat([one.patches for one in batch]), torch.cat([one.grids for one in batch])
        return {**read, "pixel_values": patches, "image_grid_thw": grids, "mm_token_type_ids": where.long()}

    def answers(self, tokens: torch.Tensor) -> list[str]:
        """Texts of what the model wrote."""
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def spellings(self) -> dict[str, list[int]]:
        """Tokens of YES and of NO, in every spelling that the tokenizer has."""
        found: dict[str, list[int]] = {YES: [], NO: []}
        for token, place in self.tokenizer.get_vocab().items():
            # Decoding all of a large vocabulary takes seconds; a token has the letters of what it spells.
            if any(answer in token.casefold() for answer in found) and (
                answer := spells(self.tokenizer.decode([place]))
            ):
                found[answer].append(place)
        return {answer: sorted(places) for answer, places in found.items()}

    def _text(self, chat: list[dict[str, Any]], counts: Sequence[int]) -> str:
        text = self.tokenizer.apply_chat_template(
            chat, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        parts = text.split(self.image_token)
        assert len(parts) == len(counts) + 1, "the template of the chat has a place for each picture"
        marks = [self.image_token * count for count in counts] + [""]
        return "".join(part + mark for part, mark in zip(parts, marks, strict=True))


def _template(folder: Path) -> str | None:
    """The template that lies beside the tokenizer, where one does."""
    plain, wrapped = folder / "chat_template.jinja", folder / "chat_template.json"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    return json.loads(wrapped.read_text(encoding="utf-8"))["chat_template"] if wrapped.is_file() else None
