"""The example of docs/student.md, run as it stands in a folder with an exported student."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.lightgen.pipeline.tiny import SIZE_PX, of_words

DOCS = Path(__file__).parents[3] / "docs"


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (DOCS / "student.md").read_text(encoding="utf-8").split("## Drawing")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    of_words().save_pretrained(tmp_path / "student")
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(compile(block, "docs/student.md", "exec"), made)
    assert made["pipe"].dtype == torch.bfloat16
    assert [image.size for image in made["images"]] == [(SIZE_PX, SIZE_PX)] * 4
    assert isinstance(made["changed"], Image.Image)
    assert (tmp_path / "copy" / "model_index.json").is_file()
