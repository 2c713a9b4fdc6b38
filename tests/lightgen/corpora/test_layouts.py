"""Published layouts: an invented row of each in the shape of its file, read by the settings that docs/data.md gives."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import TypeAdapter

from lightgen.corpora.base import Corpus
from lightgen.corpora.cleaning import Limits, clean
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.dictionary_page import all_short
from lightgen.corpora.json_scan import item_ends, items_at_once
from lightgen.errors import InputCorrupt

CONFIG: TypeAdapter[Any] = TypeAdapter(CorpusConfig)
REAL = Path(__file__).parents[4] / "shared" / "data"
TURNS = [{"from": "human", "value": "<image>\nSay what is shown."}, {"from": "gpt", "value": "a red kite over a pier"}]


def corpus(path: Path, settings: dict[str, Any]) -> Corpus:
    return CONFIG.validate_python({"path": str(path), "source": "test", **settings})


def texts(path: Path, settings: dict[str, Any]) -> list[str]:
    """Captions, and reasons of what is refused."""
    rows = corpus(path, settings).read()
    return [row.refused[0] if row.refused else (row.text or b"").decode() for row in rows]


def tar_of(path: Path, members: dict[str, Any]) -> None:
    """A tar as webdataset writes it: a PAX header before each member."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            tar.addfile(info, io.BytesIO(data))


ARRAYS: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "LLaVA-Pretrain": (
        [{"id": "1", "image": "00000/1.jpg", "conversations": [{"value": "Say.\n<image>"}, TURNS[1]]}],
        {"kind": "conversations"},
        ["a red kite over a pier"],
    ),
    "mix665k, a row without image": (
        [{"id": "a_0", "model": "", "conversations": [{"from": "human", "value": "Write."}, TURNS[1]]}],
        {"kind": "conversations"},
        ["record_without_image"],
    ),
    "many turns, and a list of images": (
        [{"images": ["1.jpg", "2.jpg"], "conversations": [{"role": "user", "content": "?"},
          {"role": "assistant", "content": "two cups"}, {"role": "assistant", "content": "another"}]}],
        {"kind": "conversations"},
        ["two cups"],
    ),
    "LLaVA-Pretrain's meta": (
        [{"id": "1", "image": "1.jpg", "blip_caption": "a kite", "url": "u"}],
        {"kind": "json", "field": "blip_caption"},
        ["a kite"],
    ),
    "ShareGPT-4o-Image": (
        [{"input_prompt": "A paper lighthouse.", "output_image": "image/1.png"}],
        {"kind": "json", "field": "input_prompt"},
        ["A paper lighthouse."],
    ),
    "HPSv2's prompts": (["a cup on a sill", "a dog"], {"kind": "json"}, ["a cup on a sill", "a dog"]),
    "HPDv2": ([{"prompt": "a tin robot", "file_path": ["a"]}], {"kind": "json", "field": "prompt"}, ["a tin robot"]),
    "TIFA": ([{"id": "coco_1", "caption": "A cup.", "coco_val_id": "9"}], {"kind": "json"}, ["A cup."]),
    "COCO": (
        {"info": {"year": 1}, "licenses": [{"id": 1}], "images": [{"id": 9, "file_name": "9.jpg"}] * 50,
         "annotations": [{"image_id": 9, "caption": "A tin cup. "}, {"image_id": 9, "caption": "Cup"}]},
        {"kind": "coco"},
        ["A tin cup. ", "Cup"],
    ),
    "COCO, the captions first": (
        {"annotations": [{"caption": "A [cup], \"tin\" \\ {"}], "images": [{"id": 9}]}, {"kind": "coco"},
        ["A [cup], \"tin\" \\ {"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ARRAYS)
def test_json_documents(tmp_path: Path, name: str, indent: int | None) -> None:
    document, settings, expected = ARRAYS[name]
    (tmp_path / "a.json").write_text(json.dumps(document, indent=indent))
    assert texts(tmp_path / "a.json", settings) == expected


LINES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "Localized Narratives": (
        {"image_id": "9", "caption": "There is a cup.", "timed_caption": [{"utterance": "There is"}],
         "traces": [[{"x": 0.2, "y": -0.05, "t": 0.0}] * 300]},
        {},
        "There is a cup.",
    ),
    "JourneyDB, prompts": ({"prompt": "glass whale --ar 3:2", "Task2": {"Caption": "A whale."}}, {"field": "prompt"},
                           "glass whale --ar 3:2"),
    "JourneyDB, captions": ({"prompt": "glass whale", "Task2": {"Caption": "A whale."}}, {"field": "Task2.Caption"},
                            "A whale."),
    "Echo-4o-Image": ({"task_type": "t2i", "instruction": "A river."}, {"field": "instruction"}, "A river."),
    "GenEval": ({"tag": "colors", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"},
                {"field": "prompt"}, "a photo of a cup"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_json_lines(tmp_path: Path, name: str) -> None:
    record, settings, expected = LINES[name]
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    assert texts(tmp_path / "a.jsonl", {"kind": "jsonl", **settings}) == [expected]


TABLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "CC3M": ("the town 's clock at dusk\thttp://images.invalid/j.jpg\n", {"header": ["caption", "url"]},
             "the town 's clock at dusk"),
    "CC12M": ('http://images.invalid/i.jpg\t<PERSON> "opens" the library\n', {"header": ["url", "caption"]},
              '<PERSON> "opens" the library'),
    "PartiPrompts": ('Prompt\tCategory\tChallenge\tNote\n"Open" on a sign\tIllustrations\tWriting & Symbols\t\n',
                     {"column": "Prompt"}, '"Open" on a sign'),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    text, settings, expected = TABLES[name]
    (tmp_path / "a.tsv").write_text(text)
    assert texts(tmp_path / "a.tsv", {"kind": "table", **settings}) == [expected]


PARQUET: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "LLaVA-NeXT-Data": (
        {"id": "1", "conversations": TURNS, "data_source": "s", "image": {"bytes": b"x" * 99, "path": None}},
        {"kind": "conversations"},
        ["a red kite over a pier"],
    ),
    "LLaVA-NeXT-Data, a row without image": (
        {"id": "1", "conversations": [{"from": "human", "value": "+"}, {"from": "gpt", "value": "5"}], "image": None},
        {"kind": "conversations"},
        ["record_without_image"],
    ),
    "DiffusionDB": (
        {"image_name": "0.png", "prompt": "glass whale", "seed": 4026531839, "image_nsfw": 2.0, "user_name": None},
        {"kind": "parquet", "column": "prompt"},
        ["glass whale"],
    ),
    "Gustavosta's prompts": ({"Prompt": "glass whale"}, {"kind": "parquet", "column": "prompt"}, ["glass whale"]),
    "LAION": ({"URL": "u", "TEXT": "Old bridge", "hash": -9007199254740993}, {"kind": "parquet", "column": "text"},
              ["Old bridge"]),
    "LAION-COCO": ({"TEXT": "IMG_1", "all_captions": ["a bench", "a seat"]},
                   {"kind": "parquet", "column": "all_captions"}, ["a bench", "a seat"]),
    "FLUX-Reason-6M": ({"caption_original": "harbour", "caption_style": None},
                       {"kind": "parquet", "column": "caption_style"}, [""]),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUET)
def test_parquet(tmp_path: Path, name: str) -> None:
    row, settings, expected = PARQUET[name]
    (tmp_path / "data").mkdir()
    table = pa.Table.from_pylist([row])
    if name.startswith("FLUX"):
        table = table.cast(pa.schema([("caption_original", pa.string()), ("caption_style", pa.string())]))
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    assert texts(tmp_path, settings) == expected


@pytest.mark.parametrize(
    "document", [['a "cup", ', "b", ", "] * 300, [{"Id": 1, "Task": {"Say": "a"}}, {"ID": 2}] * 300]
)
def test_documents_of_texts_and_of_nested_fields_are_parsed_and_read_at_once(
    tmp_path: Path, document: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document))
    monkeypatch.setattr("lightgen.corpora.jsonl.gathered", None)  # what gathers them one by one
    found = texts(tmp_path / "a.json", {"kind": "json", "field": "task.say"})
    assert found == (document if isinstance(document[0], str) else ["a", ""] * 300)


def test_tars_of_pictures_give_their_captions(tmp_path: Path) -> None:
    tar_of(
        tmp_path / "data_000000.tar",
        {"1.jpg": "x" * 2000, "1.json": {"prompt": "A kettle."}, "2.json": {"prompt": "B"}},
    )
    tar_of(tmp_path / "data_000001.tar", {"1.jpg": "x", "1.json": {"prompt": "C"}})
    assert texts(tmp_path, {"kind": "webdataset"}) == ["A kettle.", "B", "C"]
    dalle = {
        "short_caption": "A fox.",
        "long_caption": "A fox in a coat.",
        "original_prompt": None,
        "long_caption2": None,
    }
    tar_of(tmp_path / "dalle.tar", {"k.json": dalle, "k.png": "x", "l.json": {**dalle, "long_caption": ["a", "b"]}})
    path = tmp_path / "dalle.tar"
    assert texts(path, {"kind": "webdataset", "field": "long_caption"}) == ["A fox in a coat.", "a", "b"]
    assert texts(path, {"kind": "webdataset"}) == ["no_caption"] * 2
    blip = {"k.jpg": "x", "k.txt": "A lighthouse.", "k.json": '{"caption": NaN}'}
    tar_of(tmp_path / "blip.tar", blip)
    assert texts(tmp_path / "blip.tar", {"kind": "webdataset"}) == ["A lighthouse."]
    assert texts(tmp_path / "blip.tar", {"kind": "webdataset", "field": "caption"}) == [""]


def test_dpg_bench_is_a_folder_of_prompts_one_a_file(tmp_path: Path) -> None:
    """An item of nothing gives no prompt, and what is no .txt is passed over."""
    (tmp_path / "COCOval2014000000000042.txt").write_text("A tin cup.\n")
    (tmp_path / "partiprompts0.txt").write_text("a kite, and a pier")
    (tmp_path / "7.txt").write_text("")
    (tmp_path / "8.txt").write_bytes(b"caf\xe9")
    (tmp_path / "dpg_bench.csv").write_text("item_id,text\n7,no prompt\n")
    rows = [row.text for row in corpus(tmp_path, {"kind": "text"}).read()]
    assert rows == [b"caf\xe9", b"A tin cup.", b"a kite, and a pier"]
    assert clean(rows[0], Limits(), lambda _: 1)[0] == "caption_encoding"  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("pack", [gzip.compress, pa.Codec("zstd").compress])
def test_a_compressed_tar_is_refused_by_name(tmp_path: Path, pack: Any) -> None:
    tar_of(tmp_path / "plain.tar", {"1.json": {"prompt": "A kettle."}})
    packed = tmp_path / "packed.tar"
    packed.write_bytes(bytes(pack((tmp_path / "plain.tar").read_bytes())))
    with pytest.raises(InputCorrupt, match=r"packed\.tar is no sound tar: .*a compressed one is not read"):
        texts(packed, {"kind": "webdataset"})


def test_the_parts_of_diffusiondb_are_refused_by_name_and_its_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "part-000001.json").write_text(json.dumps({"a.png": {"p": "glass whale", "se": 1, "sa": "k_lms"}}))
    with pytest.raises(InputCorrupt, match=r"is no array of records; keys at its top: a\.png"):
        texts(tmp_path / "part-000001.json", {"kind": "json", "field": "p"})
    pq.write_table(pa.table({"prompt": ["glass whale", None, ""], "user_name": [None] * 3}), tmp_path / "m.parquet")
    rows = [row.text for row in corpus(tmp_path / "m.parquet", {"kind": "parquet", "column": "prompt"}).read()]
    assert rows == [b"glass whale", None, b""]


@pytest.mark.parametrize("indent", [None, 1])
def test_many_items_are_parsed_at_once_and_end_where_brackets_say(indent: int | None) -> None:
    """Nested objects that begin as the items do, and texts that look like the end of one, are taken for no end."""
    rows = [{"id": n, "caption": f'}}, {{"id": {n}', "deep": [{"id": 1}, {"id": 2}]} for n in range(300)]
    data = json.dumps(rows, indent=indent).encode()[1:]
    for cut in range(len(data) - 200, len(data), 7):
        found = items_at_once(data[:cut], False)
        ends = item_ends(data[:cut], False)
        assert found is not None
        items, size = found
        assert items == rows[: len(items)]
        assert size == ends[len(items) - 1]
        assert len(items) >= len(ends) - 1


@pytest.mark.parametrize("end", ["]", " ]\n", "\n]  "])
def test_the_last_items_are_parsed_with_the_others(end: str) -> None:
    """Where nothing comes after them, up to the bracket. What stands behind it, or no item, is left to `item_ends`."""
    data = (json.dumps(["a [b]", "c"] * 60)[1:-1] + end).encode()
    assert items_at_once(data, True) == (["a [b]", "c"] * 60, data.rindex(b"]"))
    before = data.rindex(b",") + 1
    assert items_at_once(data, False) == (["a [b]", "c"] * 59 + ["a [b]"], before)
    for behind in (b", [1]", b"]", b"} ]"):
        assert items_at_once(data + behind, True) == (["a [b]", "c"] * 59 + ["a [b]"], before)


def test_a_long_value_in_a_dictionary_is_never_taken_for_a_short_one(tmp_path: Path) -> None:
    filling = [f"{n:0400d}" for n in range(400)]  # of a page: in the last 64 KiB of one no value can be longer
    odd = [("x" * 300, True), ("x" * 65535, True), ("x" * 65536, False), ("x" * 200_000, False), ("", True)]
    for value, short in [*odd, ("a\0\0\0b", False), ("x" * 256, True)]:
        for values in (["one", value, *filling], [value, *filling], [*filling, value], [*filling[:200], value] * 2):
            pq.write_table(pa.table({"a": [*values, "three"] * 9}), tmp_path / "a.parquet")
            with (tmp_path / "a.parquet").open("rb") as file:
                chunk = pq.ParquetFile(file).metadata.row_group(0).column(0)
                at_end = "\0" in value and values[-1] == value  # what cannot be told needs not be
                assert all_short(file, chunk) is (short or at_end), (value[:9], len(value))


def test_a_saved_data_set_is_read_as_the_library_wrote_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"caption": [f"caption {number}" for number in range(2500)], "all": [["a", "b"]] * 2500}
    made = datasets.Dataset.from_dict(rows)
    made.save_to_disk(tmp_path / "one", num_shards=3)
    settings = {"kind": "datasets"}
    assert texts(tmp_path / "one", settings) == rows["caption"]
    assert texts(tmp_path / "one", {**settings, "column": "all"})[:3] == ["a", "b", "a"]
    datasets.DatasetDict(train=made, test=made).save_to_disk(tmp_path / "two")
    with pytest.raises(InputCorrupt, match=r"several splits: test, train\. Give the folder of one"):
        texts(tmp_path / "two", settings)
    assert texts(tmp_path / "two" / "test", settings) == rows["caption"]
    made.to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    assert texts(tmp_path / "hub", {"kind": "parquet"}) == rows["caption"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('{"a": [{"caption": "x"}]}', "is no array of records; keys at its top: a: set `items`"),
        ('[{"caption": "x"}, {"caption"', "is not sound JSON: it is cut short"),
        ('[{"caption": "x"} {"caption": "y"}]', "record_malformed"),
        ('[{"text": "x"}]', "has no field 'caption'; it has text: set `field`"),
        ("", "is empty"),
        ('{"images": [1, 2', "no array|cut short"),
    ],
)
def test_documents_that_are_broken_or_another_say_what_to_do(tmp_path: Path, data: str, told: str) -> None:
    (tmp_path / "a.json").write_text(data)
    if told == "record_malformed":
        assert texts(tmp_path / "a.json", {"kind": "json"}) == [told]
        return
    settings = {"kind": "coco"} if data.startswith('{"images') else {"kind": "json"}
    with pytest.raises(InputCorrupt, match=told):
        texts(tmp_path / "a.json", settings)


def test_a_document_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items end where they end, wherever the pieces do; what stands before the array is passed over in pieces too."""
    rows = [{"id": number, "caption": f'a "cup" \\ [{number}] é, {{'} for number in range(200)]
    document = {"info": {"deep": [[1, {"a": "]"}]]}, "images": [{"n": 1}] * 100, "annotations": rows}
    (tmp_path / "a.json").write_text(json.dumps(document, ensure_ascii=False, indent=2))
    for block in (1, 7, 64, 1 << 20):
        monkeypatch.setattr("lightgen.corpora.lines.BLOCK", block)
        monkeypatch.setattr("lightgen.corpora.json_scan.BLOCK", block)
        made = corpus(tmp_path / "a.json", {"kind": "coco"})
        assert [(row.text or b"").decode() for row in made.read()] == [row["caption"] for row in rows]
    inventory = made.cut(30)
    again = [row for place in inventory.places() for row in made.read_range(inventory, place, tmp_path)]
    assert again == list(made.read())
    assert [one.rows for one in inventory.ranges] == [30] * 6 + [20]


PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
CHOICES = ("k_center", "parts", "balance")  # rules of `select`, on the same page
WRITTEN = [
    found
    for found in re.findall(r"`?(\{kind: (?:[^{}`]|\n)*\})", PAGE)
    if not found.startswith(tuple(f"{{kind: {name}" for name in CHOICES))
]


@pytest.mark.parametrize("written", WRITTEN)
def test_the_page_on_data_gives_settings_that_a_recipe_takes(written: str) -> None:
    CONFIG.validate_python({"source": "page"} | yaml.safe_load(written))


def test_the_page_on_data_is_looked_through() -> None:
    assert len(WRITTEN) > 20


@pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real files is not beside the checkout")
def test_real_files() -> None:
    coco = texts(REAL / "layouts" / "coco_captions_val2017_excerpt.json", {"kind": "coco"})
    assert len(coco) == 300
    assert all(coco)
    parti = texts(REAL / "parti_prompts.tsv", {"kind": "table", "column": "prompt"})
    assert len(parti) == 1632
    geneval = texts(REAL / "geneval_evaluation_metadata.jsonl", {"kind": "jsonl", "field": "prompt"})
    assert len(geneval) == 553
    assert len(texts(REAL / "layouts" / "tifa_v1.0_text_inputs_excerpt.json", {"kind": "json"})) == 45
    table = {"kind": "table", "header": ["image_id", "ann_id", "caption"]}
    assert "record_ragged" not in texts(REAL / "coco_val2017_captions.tsv", table)
    dsg = {"kind": "table", "column": "text"}
    assert len(texts(REAL / "layouts" / "dsg_1k_excerpt.csv", dsg)) == 137
    tar = REAL / "layouts" / "webdataset_dirs_and_double_ext.tar"
    assert set(texts(tar, {"kind": "webdataset"})) == {"no_caption"}


def test_a_path_goes_through_a_list_of_objects(tmp_path: Path) -> None:
    rows = [
        {"sentences": [{"raw": "a dog"}, {"raw": "a cat"}]},
        {"sentences": [{"raw": None}, {"tokens": ["a"]}, {"raw": "a cow"}]},
        {"sentences": []},
        {"sentences": ["a text", {"raw": "a hen"}]},
        {"sentences": [{"raw": 5}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"images": rows}))
    found = texts(tmp_path / "a.json", {"kind": "json", "items": "images", "field": "sentences.raw"})
    assert found == ["a dog", "a cat", "a cow", "", "", "caption_not_text"]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert texts(tmp_path / "a.jsonl", {"kind": "jsonl", "field": "sentences.raw"}) == found
