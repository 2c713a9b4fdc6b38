"""Chats with one picture each as inputs of Qwen2.5-VL.

What the published processor makes of them, without the parts for videos, which want torchvision: pictures through the
Pillow image processor, and as many image tokens as it cuts a picture into.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class QwenProcessor:
    """Tokenizer, image processor and template of a chat; `image_token` stands for a picture in a text."""

    tokenizer: Any
    images: Any
    template: str
    image_token: str

    @classmethod
    def from_folder(cls, folder: Path, image_token_id: int) -> "QwenProcessor":
        """That of a model on this machine. Raises OSError, ValueError."""
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Answers are read off the end of each row, so padding must stand before the prompt.
        tokenizer.padding_side = "left"
        images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        image_token = tokenizer.convert_ids_to_tokens(image_token_id)
        return cls(tokenizer, images, _template(folder) or tokenizer.chat_template, image_token)

    def inputs(self, chats: Sequence[list[dict[str, Any]]]) -> dict[str, torch.Tensor]:
        """What the model takes; each chat holds one picture, as a part {"type": "image", "image": ...}."""
        pictures = [part["image"] for chat in chats for turn in chat for part in turn["content"] if "image" in part]
        assert len(pictures) == len(chats), "one picture a chat"
        seen = dict(self.images(images=pictures, return_tensors="pt"))
        tokens = (seen["image_grid_thw"].prod(dim=1) // self.images.merge_size**2).tolist()
        texts = [self._text(chat, count) for chat, count in zip(chats, tokens, strict=True)]
        read = dict(self.tokenizer(texts, padding=True, return_tensors="pt"))
        where = read["input_ids"] == self.tokenizer.convert_tokens_to_ids(self.image_token)
        return {**read, **seen, "mm_token_type_ids": where.long()}

    def answers(self, tokens: torch.Tensor) -> list[str]:
        """Texts of what the model wrote."""
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def _text(self, chat: list[dict[str, Any]], tokens: int) -> str:
        text = self.tokenizer.apply_chat_template(
            chat, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        before, mark, after = text.partition(self.image_token)
        assert mark, "the template of the chat has no place for the picture"
        return before + mark * tokens + after


def _template(folder: Path) -> str | None:
    """The template that lies beside the tokenizer, where one does."""
    plain, wrapped = folder / "chat_template.jinja", folder / "chat_template.json"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    return json.loads(wrapped.read_text(encoding="utf-8"))["chat_template"] if wrapped.is_file() else None
