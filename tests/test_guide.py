"""docs/guide.md, followed to the letter: every block of it is run, in order, in one folder.

What a reader brings is made here: a table of 3,000 captions. Where the guide needs what no test may have, a key or a
GPU, the same blocks run against real local parts, and `STANDS_FOR` says which.
"""

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightgen.generators.tiny_pipelines import tiny_pipeline
from lightgen.scenes.grammar import TASKS, captions
from lightgen.storage.store import open_store
from tests.conftest import KEY, SECRET, make_bucket
from tests.documents import ROOT, Block, blocks, run
from tests.servers.images import ImagesServer, refusal

GUIDE = blocks(ROOT / "docs/guide.md")
SECTIONS = list(dict.fromkeys(block.section for block in GUIDE))
MAIN = "From captions to a student"
LATER = [section for section in SECTIONS if section not in ("Install", MAIN)]
COCO = ROOT.parent / "shared/data/coco_val2017_captions.tsv"
ROWS, CHOSEN, PICTURES, REPEATED = 3000, 500, 50, 20

pytestmark = [pytest.mark.xdist_group("guide"), pytest.mark.timeout(1800)]


def coco(count: int) -> list[str]:
    """Captions that people wrote of photographs."""
    with COCO.open(encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[-1] for line in itertools.islice(file, count)]


def scenes(count: int) -> list[str]:
    """Captions of the scene world, each told in one of a few ways, so that many are alike; some stand twice."""
    ways = ("{}", "A picture that shows {}", "On a grey table there is {}", "Somebody painted {} last summer")
    found = itertools.chain.from_iterable(captions("train", task) for task in itertools.cycle(TASKS))
    told = [ways[row % len(ways)].format(text) for row, text in enumerate(itertools.islice(found, count - REPEATED))]
    return [*told, *told[:REPEATED]]


def write_captions(folder: Path, texts: list[str]) -> None:
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file)
        written.writerows([("image", "n", "caption"), *((f"{row}.jpg", row, text) for row, text in enumerate(texts))])


def followed(folder: Path, section: str) -> str:
    return "\n".join(run(block, folder) for block in GUIDE if block.section == section)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of somebody who followed the main path, and all that was printed."""
    folder = tmp_path_factory.mktemp("guide")
    write_captions(folder, coco(ROWS) if COCO.exists() else scenes(ROWS))
    return folder, followed(folder, MAIN)


def test_the_main_path_ends_in_what_it_promises(walked: tuple[Path, str]) -> None:
    folder, printed = walked
    store = open_store(str(folder / "store"))
    prompts, checkpoint = store.open("prompts"), store.open("checkpoint")
    assert (store.open("captions").rows, prompts.rows) == (ROWS, CHOSEN)
    assert sum(prompts.reject_reasons.values()) == ROWS - CHOSEN
    assert f"{ROWS - CHOSEN:,} of {ROWS:,} rows rejected" in printed
    assert [store.open(kind).rows for kind in ("images", "kept", "features")] == [PICTURES] * 3
    assert [entry.role for entry in store.log("checkpoint")] == ["pretrained"]
    loop: Any = checkpoint.plan.config["loop"]
    assert loop["steps"] == 40
    for name in ("prompts.html", "kept.html", "drawn.png", "from_diffusers.png", "exported/model_index.json"):
        assert (folder / name).stat().st_size > 200, name


def test_the_rejects_are_readable(walked: tuple[Path, str]) -> None:
    folder, printed = walked
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        given = {row["caption"] for row in csv.DictReader(file)}
    told = [line.strip() for line in printed.splitlines() if "(not among the 500 that were chosen)" in line]
    assert told
    assert {line.split("  (")[0] for line in told} <= given


def test_the_pictures_are_those_of_the_most_diverse_prompts(walked: tuple[Path, str]) -> None:
    folder, _ = walked
    store = open_store(str(folder / "store"))
    ranked = store.open("prompts").table(columns=["id", "rank"]).sort_by("rank")["id"].to_pylist()
    assert set(store.open("images").table(columns=["prompt_id"])["prompt_id"].to_pylist()) == set(ranked[:PICTURES])


@pytest.mark.long
def test_captions_that_are_all_alike_in_form_pass_too(tmp_path: Path) -> None:
    """The path of a machine without the captions of people."""
    write_captions(tmp_path, scenes(ROWS))
    followed(tmp_path, MAIN)
    assert open_store(str(tmp_path / "store")).open("prompts").rows == CHOSEN


# What a line of the guide becomes here, by section, and why. A line that becomes nothing is not run.
NOTHING_TO_INSTALL = "the environment is there; the Makefile runs the same lines"
STANDS_FOR = {
    "Install": {
        "python3 -m venv .venv\n": ("", NOTHING_TO_INSTALL),
        ".venv/bin/pip install -e . -c constraints.txt\n": ("", NOTHING_TO_INSTALL),
        "source .venv/bin/activate\n": ("", NOTHING_TO_INSTALL),
    },
    "A teacher on your GPU": {
        "stabilityai/stable-diffusion-xl-base-1.0": ("{folder}/sdxl", "a tiny pipeline of that class"),
        ", revision: 462165984030d82259a11f4367a4eed129e94a7b": ("", "a folder has no commits"),
        "steps: 30": ("steps: 2", "on a processor"),
        "size_px: 1024": ("size_px: 64", "on a processor"),
        "count: 500": ("count: 12", "on a processor"),
    },
    "A teacher behind an API": {
        "https://api.openai.com/v1": ("{images}", "a server of this machine that draws, and refuses one prompt"),
        "1024x1024": ("64x64", "what it draws"),
        "size_px: 512": ("size_px: 64", "what it draws"),
        "count: 500": ("count: 12", "the time of a test"),
        "<key>": ("sk-proj-not-a-key", "it asks for none"),
    },
    "S3": {
        "https://s3.example.com": ("{s3}", "a SeaweedFS of this machine"),
        "s3://bucket/": ("s3://guide/", "its bucket"),
        "<key>": (KEY, "of that server"),
        "<secret>": (SECRET, "of that server"),
    },
}  # fmt: skip


def here(block: Block, **places: str) -> Block:
    """The block as it runs on this machine."""
    body = block.body
    for words, (instead, _) in STANDS_FOR.get(block.section, {}).items():
        body = body.replace(words, instead.format(**places) if places else instead)
    return replace(block, body=body)


def test_what_is_replaced_stands_in_the_guide() -> None:
    for section, words in STANDS_FOR.items():
        text = "\n".join(block.body for block in GUIDE if block.section == section)
        assert [one for one in words if one not in text] == []


def test_install(tmp_path: Path) -> None:
    (block,) = (block for block in GUIDE if block.section == "Install")
    assert run(here(block), tmp_path).startswith("lightgen ")


def test_a_teacher_on_your_gpu(walked: tuple[Path, str]) -> None:
    folder, _ = walked
    tiny_pipeline(folder / "sdxl", "StableDiffusionXLPipeline")
    written, commands = (block for block in GUIDE if block.section == "A teacher on your GPU")
    run(written, folder)
    run(replace(commands, body=commands.body.split("\n")[0]), folder)  # rehearsed as it is written
    run(here(written, folder=str(folder)), folder)
    run(commands, folder)
    assert {row["width"] for row in open_store(str(folder / "store")).open("images@train").table().to_pylist()} == {64}


def test_a_teacher_behind_an_api(walked: tuple[Path, str]) -> None:
    folder, _ = walked
    written, commands = (block for block in GUIDE if block.section == "A teacher behind an API")
    with ImagesServer([refusal()]) as server:
        run(here(written, images=server.api), folder)
        printed = run(here(commands), folder)
    images = open_store(str(folder / "store")).open("images@train")
    assert (images.rows, images.reject_reasons) == (11, {"refused": 1})
    assert "0.48" in printed, "twelve pictures at 0.04"
    assert set(server.keys) == {"Bearer sk-proj-not-a-key"}
    for path in folder.rglob("*"):
        assert not path.is_file() or b"sk-proj-not-a-key" not in path.read_bytes(), path


def test_s3(walked: tuple[Path, str], s3_endpoint: str, tmp_path: Path) -> None:
    folder, _ = walked
    make_bucket(s3_endpoint, "guide")
    (block,) = (block for block in GUIDE if block.section == "S3")
    printed = run(here(block, s3=s3_endpoint), folder, {"HOME": str(tmp_path)})
    local = open_store(str(folder / "store"))
    assert f"prompts@{local.resolve('prompts@1')[1][:12]}" in printed, "the same name as in the folder"
    assert "sound s3://guide/lightgen" in printed


@pytest.mark.parametrize("section", [one for one in LATER if one not in STANDS_FOR])
def test_the_rest_of_the_guide(walked: tuple[Path, str], section: str) -> None:
    """Sections that need nothing but the folder of the main path run as they are, in a copy of it."""
    folder, _ = walked
    assert followed(folder, section)


def test_every_section_is_followed() -> None:
    """By the main path, by a test of its own where something stands for what no test may have, or as it is."""
    assert {"Install", MAIN, *LATER} == set(SECTIONS)
    assert set(STANDS_FOR) <= set(SECTIONS)
    assert len(LATER) > 8


def test_what_the_main_path_tells_of_one_row_leads_from_caption_to_checkpoint(walked: tuple[Path, str]) -> None:
    folder, _ = walked
    trace = next(block for block in GUIDE if "lightgen trace" in block.body)
    line = next(line for line in trace.body.splitlines() if line.startswith("lightgen trace"))
    printed = run(replace(trace, body=line), folder)
    kinds = ("captions@", "prompts@", "images@", "kept@", "features@", "checkpoint@")
    assert [kind for kind in kinds if kind not in printed] == []


def test_recipes_of_the_guide_name_their_schema() -> None:
    written = [block for block in GUIDE if block.file.endswith(".yaml")]
    assert len(written) == 4
    assert {block.body.split("\n")[0] for block in written} == {"# yaml-language-server: $schema=recipe.schema.json"}
    assert json.loads((ROOT / "recipes/recipe.schema.json").read_text())["properties"]["source"]
