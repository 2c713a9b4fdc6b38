"""Pictures that exist become images: folders, tars and tables, whole or broken."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from lightgen.config import problems_of
from lightgen.corpora.picture_config import PictureSetConfig
from lightgen.errors import InputChanged, InputCorrupt, TooManyRejects
from lightgen.operations.checks import fit_problems
from lightgen.operations.rehearsal import rehearse
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe
from lightgen.stages import pictures as stage
from lightgen.stages.pictures import PicturesConfig, pictures
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import open_or_create
from lightgen.storage.version import Version
from lightgen.training.features_on_disk import open_features
from lightgen.training.texts_on_disk import open_texts
from lightgen.work import Context, RunConfig, Work, Worker

ANY: Any = TypeAdapter(PictureSetConfig)
CAPTIONS = [f"picture number {number} of a red circle" for number in range(7)]


def file(number: int, height: int = 80, width: int = 100, form: Any = "jpg") -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    return encode_image(np.stack([x * 2 + number, y * 3, x + y + 9 * number], -1).astype(np.uint8), form)


FILES = [file(number) for number in range(7)]


def context(folder: Path) -> Context:
    return Context(open_or_create(str(folder / "store")), 0, RunConfig(device="cpu"))


def imported(folder: Path, given: dict[str, Any], **settings: Any) -> Version:
    works = context(folder)
    base: dict[str, Any] = {"sets": [{"source": "mine", "licence": "CC0", **given}], "shard_rows": 3}
    return works.store.open(pictures(PicturesConfig(**{**base, **settings}), works))


def stored(version: Version) -> list[tuple[str, bytes]]:
    """Caption and bytes of each image, in order."""
    found = []
    for shard in range(version.n_shards):
        rows = {row["id"]: row for row in version.table(shard).to_pylist()}
        for id, members in version.samples(shard):
            found.append((rows[id]["caption"], members[rows[id]["format"]]))
    return found


def reasons(version: Version) -> dict[str, str]:
    rows = [row for shard in range(version.n_shards) for row in version.rejects(shard).to_pylist()]
    return {json.loads(row["row"])["file"]: row["reason"] for row in rows}


def beside(folder: Path, suffix: str = ".txt") -> Path:
    folder.mkdir()
    for number, (caption, data) in enumerate(zip(CAPTIONS, FILES, strict=True)):
        (folder / f"{number}.jpg").write_bytes(data)
        text = caption if suffix == ".txt" else json.dumps({"width": 3, "prompt": caption})
        (folder / f"{number}{suffix}").write_text(text)
    return folder


def listed(folder: Path, name: str) -> Path:
    beside(folder)
    for path in folder.glob("*.txt"):
        path.unlink()
    rows = [{"file_name": f"{number}.jpg", "text": caption} for number, caption in enumerate(CAPTIONS)]
    with (folder / name).open("w", newline="") as out:
        if name.endswith(".jsonl"):
            out.writelines(f"{json.dumps(row)}\n" for row in rows)
        else:
            writer = csv.DictWriter(out, ["file_name", "text"], delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def tar(path: Path, samples: list[dict[str, bytes]], style: int = tarfile.PAX_FORMAT) -> Path:
    """As webdataset writes them: times with fractions, so each member has a PAX header before it."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=style) as out:
        for number, sample in enumerate(samples):
            for suffix, data in sample.items():
                info = tarfile.TarInfo(f"./a.b/{number:05d}{suffix}")
                info.size, info.mtime = len(data), 1700000000.25  # type: ignore[assignment]
                out.addfile(info, io.BytesIO(data))
    return path


def as_json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def published(folder: Path) -> Path:
    """As text-to-image-2M: a picture and its json."""
    samples = [{".jpg": data, ".json": as_json(prompt=caption)} for caption, data in zip(CAPTIONS, FILES, strict=True)]
    tar(folder / "data_000000.tar", samples[:4])
    tar(folder / "data_000001.tar", samples[4:])
    return folder


def dalle(folder: Path) -> Path:
    """As DALLE-3-1M: the json first, pictures of several suffixes, several captions of which one is a list."""
    samples = []
    for number, (caption, data) in enumerate(zip(CAPTIONS, FILES, strict=True)):
        record = as_json(short_caption="x", long_caption=[caption], original_prompt=None)
        samples.append({".json": record, (".jpg", ".JPEG", ".jpeg")[number % 3]: data})
    return tar(folder / "data-000000.tar", samples).parent


def table(folder: Path, struct: bool) -> Path:
    folder.mkdir()
    image = [{"bytes": data, "path": f"{number}.jpg"} if struct else data for number, data in enumerate(FILES)]
    rows = pa.table({"image": image, "text": CAPTIONS})
    # Plain bytes, so that a test can change one of a picture.
    pq.write_table(rows, folder / "train-0.parquet", row_group_size=2, compression="none", use_dictionary=False)
    return folder


FORMS = {
    "txt": (beside, {"kind": "folder"}),
    "json": (lambda folder: beside(folder, ".json"), {"kind": "folder"}),
    "csv": (lambda folder: listed(folder, "a.csv"), {"kind": "folder", "captions": "a.csv"}),
    "tsv": (lambda folder: listed(folder, "a.tsv"), {"kind": "folder", "captions": "a.tsv"}),
    "jsonl": (lambda folder: listed(folder, "a.jsonl"), {"kind": "folder", "captions": "a.jsonl"}),
    "text-to-image-2M": (published, {"kind": "webdataset"}),
    "DALLE-3-1M": (dalle, {"kind": "webdataset", "caption": "long_caption"}),
    "bytes": (lambda folder: table(folder, False), {"kind": "parquet"}),
    "struct": (lambda folder: table(folder, True), {"kind": "parquet"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_picture_comes_through_byte_for_byte_with_its_caption(tmp_path: Path, form: str) -> None:
    make, given = FORMS[form]
    path = str(make(tmp_path / "set"))
    assert not list(problems_of(ANY.validate_python({"source": "mine", "path": path, **given})))
    version = imported(tmp_path, {**given, "path": path, "drawn_by": "dall-e-3"})
    assert stored(version) == list(zip(CAPTIONS, FILES, strict=True))
    assert version.n_shards > 1
    row = version.table(0).to_pylist()[0]
    assert {name: row[name] for name in ("generator", "source", "licence", "height", "width", "format")} == {
        "generator": "dall-e-3", "source": "mine", "licence": "CC0", "height": 80, "width": 100, "format": "jpg",
    }  # fmt: skip
    assert reasons(version) == {}


@pytest.mark.parametrize("form", FORMS)
def test_where_a_set_lies_is_in_no_name_and_what_it_holds_is(tmp_path: Path, form: str) -> None:
    make, given = FORMS[form]
    first = imported(tmp_path, {**given, "path": str(make(tmp_path / "one"))})
    moved = imported(tmp_path, {**given, "path": str(make(tmp_path / "two"))})
    assert first.ref == moved.ref
    assert imported(tmp_path, {**given, "path": str(tmp_path / "one"), "limit": 2}).ref != first.ref


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_tars_of_all_styles_are_cut_at_samples(tmp_path: Path, style: int) -> None:
    samples = [{".jpg": data, ".txt": caption.encode()} for caption, data in zip(CAPTIONS, FILES, strict=True)]
    path = tar(tmp_path / "set" / "a.tar", samples, style)
    version = imported(tmp_path, {"kind": "webdataset", "path": str(path)}, shard_rows=2)
    assert [version.manifest.shards[shard].rows_out for shard in range(4)] == [2, 2, 2, 1]
    assert stored(version) == list(zip(CAPTIONS, FILES, strict=True))


def test_bad_pictures_of_a_tar_are_rejects_with_their_reasons(tmp_path: Path) -> None:
    text = {".txt": b"a red circle"}
    samples = [
        {".jpg": FILES[0], **text}, {".jpg": b"no picture", **text}, {".jpg": FILES[1][:200], **text}, {**text},
        {".jpg": FILES[2]}, {".jpg": FILES[2], ".json": b"{"}, {".jpg": FILES[2], ".json": as_json(other="x")},
        {".jpg": file(1, 20, 90), **text}, {".jpg": file(1, 80, 400), **text}, {".jpg": FILES[2], ".txt": b""},
        {".jpg": FILES[2], ".txt": b"\xff\xfe bad"}, {".jpg": FILES[2], ".json": as_json(prompt=3)},
        {".gif": b"GIF89a", **text},
    ]  # fmt: skip
    path = tar(tmp_path / "set" / "a.tar", samples)
    version = imported(tmp_path, {"kind": "webdataset", "path": str(path)}, max_reject_fraction=1.0, shard_rows=50)
    assert version.rows == 1
    found = {name.rpartition("/")[2]: reason for name, reason in reasons(version).items()}
    assert found == {
        "00001": "not_an_image", "00002": "image_truncated", "00003": "no_picture", "00004": "no_caption",
        "00005": "no_caption", "00006": "no_caption", "00007": "image_aspect", "00008": "image_aspect",
        "00009": "caption_empty", "00010": "caption_encoding", "00011": "no_caption", "00012": "no_picture",
    }  # fmt: skip


def test_bad_pictures_of_a_folder_are_rejects_with_their_reasons(tmp_path: Path) -> None:
    folder = beside(tmp_path / "set")
    (folder / "0.txt").unlink()
    (folder / "1.jpg").write_bytes(b"")
    (folder / "sub").mkdir()
    (folder / "sub" / "x.PNG").write_bytes(file(3, 40, 90, "png"))
    (folder / "sub" / "x.json").write_text('{"caption": "a small one"}')
    (folder / ".hidden.jpg").write_bytes(FILES[0])
    version = imported(tmp_path, {"kind": "folder", "path": str(folder)}, max_reject_fraction=1.0)
    assert reasons(version) == {"0.jpg": "no_caption", "1.jpg": "empty_file", "sub/x.PNG": "image_too_small"}
    with pytest.raises(TooManyRejects):
        imported(tmp_path / "strict", {"kind": "folder", "path": str(folder)})


def test_a_list_names_what_is_read_and_may_not_leave_its_folder(tmp_path: Path) -> None:
    folder = beside(tmp_path / "set")
    (tmp_path / "secret.jpg").write_bytes(FILES[0])
    rows = "image,said\n2.jpg,the third picture\nnone.jpg,not there\n../secret.jpg,outside\n1.jpg,the second picture\n"
    (folder / "list.csv").write_text(rows)
    given = {"kind": "folder", "path": str(folder), "captions": "list.csv", "caption": "said"}
    version = imported(tmp_path, given, max_reject_fraction=1.0)
    assert stored(version) == [("the third picture", FILES[2]), ("the second picture", FILES[1])]
    assert reasons(version) == {"none.jpg": "no_picture", "../secret.jpg": "no_picture"}


def test_a_crop_is_a_square_and_small_pictures_are_enlarged_only_where_asked(tmp_path: Path) -> None:
    given = {"kind": "folder", "path": str(beside(tmp_path / "set"))}
    row = imported(tmp_path, given, crop_px=64, format="png").table(0).to_pylist()[0]
    assert (row["height"], row["width"], row["format"]) == (64, 64, "png")
    refused = imported(tmp_path, given, crop_px=96, max_reject_fraction=1.0)
    assert set(reasons(refused).values()) == {"image_too_small"}
    assert imported(tmp_path, given, crop_px=96, enlarge=True).rows == 7


@pytest.mark.parametrize("form", FORMS)
def test_a_set_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, given = FORMS[form]
    path = make(tmp_path / "set")
    opened = stage.open

    def changed(work: Work, worker: Worker) -> Any:
        known = FILES[0][700:740]
        holds = next(one for one in path.rglob("*") if one.is_file() and known in one.read_bytes())
        holds.write_bytes(holds.read_bytes().replace(known, known[::-1]))
        return opened(work, worker)

    monkeypatch.setattr(stage, "open", changed)
    with pytest.raises((InputChanged, InputCorrupt)) as raised:
        imported(tmp_path, {**given, "path": str(path)})
    assert "parquet" in given["kind"] or isinstance(raised.value, InputChanged)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "folder", "path": "nowhere"}, "no folder"),
        ({"kind": "webdataset", "path": "empty"}, "holds no .tar files"),
        ({"kind": "parquet", "path": "empty"}, "no .parquet files"),
        ({"kind": "webdataset", "path": "broken.tar"}, "no sound tar"),
        ({"kind": "folder", "path": "empty", "captions": "none.csv"}, "cannot read"),
        ({"kind": "parquet", "path": "other.parquet"}, "no column image or jpg.* it has a, b: set `image`"),
    ],
)
def test_plan_says_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    pq.write_table(pa.table({"a": [1], "b": [2]}), "other.parquet")
    (problem,) = problems_of(ANY.validate_python({"source": "mine", **given}))
    assert problem.weight == "stops"
    import re

    assert re.search(told, problem.what), problem.what


def test_a_short_recipe_trains_on_pictures_of_ones_own(tmp_path: Path) -> None:
    folder = beside(tmp_path / "set")
    recipe = Recipe.model_validate({
        "name": "mine", "pictures": {"sets": [{"kind": "folder", "path": str(folder), "source": "mine"}]},
        "filter": {}, "recaption": {"captioner": {"kind": "given"}},
        "texts": {"encoder": {"kind": "words", "dim": 8}},
        "encode": [{"size_px": 32, "vae": {"kind": "patch_pca", "channels": 4, "fit_sizes_px": [32]}}],
    })  # fmt: skip
    store = open_or_create(str(tmp_path / "store"))
    made = run_recipe(recipe, store)
    assert store.open(made["encode-32px"]).rows == 7
    data = open_features(store.open(made["encode-32px"]), open_texts(store.open(made["texts"])))
    assert len(data) == 7
    told = store.open(made["recaption"]).table().to_pylist()
    assert {(row["caption"], row["source"]) for row in told} == {(caption, "mine") for caption in CAPTIONS}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_rehearsed_without_the_set(tmp_path: Path, form: str) -> None:
    given = {"source": "mine", "path": "/no/such/set", **FORMS[form][1]}
    recipe = Recipe.model_validate({"name": "mine", "pictures": {"sets": [given]}, "filter": {}})
    done = {one.name: one for one in rehearse(recipe, str(tmp_path), [], None, keep=False)}
    assert done["pictures"].rows > 10
    assert done["pictures"].rejected


def test_a_recipe_begins_with_captions_or_with_pictures() -> None:
    sets = {"sets": [{"kind": "folder", "path": "x", "source": "x"}]}
    source = {"corpora": [{"kind": "scenes", "split": "train", "count": 6}]}
    for given in ({}, {"source": source, "pictures": sets}, {"pictures": sets, "select": {}}):
        with pytest.raises(ValueError, match=r"give `source`|leave select and generate out|source beside pictures"):
            Recipe.model_validate({"name": "x", **given})


# --- prompts of the evaluation ----------------------------------------------------------------------------------------


def evaluated(folder: Path, *prompts: str) -> list[dict[str, Any]]:
    path = folder / "evaluation.txt"
    path.write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")
    return [{"kind": "text", "path": str(path), "source": "test"}]


GIVEN_AWAY = ["A photo of picture number 2 of a red circle!", "picture number 5 of a red circle"]


def test_a_picture_whose_caption_is_a_prompt_of_the_evaluation_is_a_reject_with_its_reason(tmp_path: Path) -> None:
    folder, lists = beside(tmp_path / "set"), evaluated(tmp_path, *GIVEN_AWAY)
    exact = {"containment": None}
    version = imported(
        tmp_path, {"kind": "folder", "path": str(folder)}, evaluation=lists, contamination=exact, max_reject_fraction=1
    )
    assert reasons(version) == {"2.jpg": "contaminated", "5.jpg": "contaminated"}
    assert stored(version) == [(CAPTIONS[at], FILES[at]) for at in (0, 1, 3, 4, 6)]
    said = [row["detail"] for shard in range(version.n_shards) for row in version.rejects(shard).to_pylist()]
    assert said == [f"equals the evaluation prompt {prompt!r}" for prompt in GIVEN_AWAY]
    plain = imported(tmp_path, {"kind": "folder", "path": str(folder)})
    assert plain.rows == 7, "without a list nothing is refused"
    assert plain.ref.version != version.ref.version


def test_pictures_beside_captions_are_held_against_the_same_prompts(tmp_path: Path) -> None:
    folder, lists = beside(tmp_path / "set"), evaluated(tmp_path, *GIVEN_AWAY)
    whole: dict[str, Any] = {
        "name": "joined",
        "source": {"corpora": [{"kind": "scenes", "split": "train", "count": 6}]},
        "select": {"near_duplicates": None, "evaluation": lists, "contamination": {"containment": None}},
        "generate": {"generator": {"kind": "scenes"}, "size_px": 80, "format": "png"},
        "pictures": {"sets": [{"kind": "folder", "path": str(folder), "source": "mine", "licence": "CC0"}],
                     "max_reject_fraction": 1},
    }  # fmt: skip
    store = open_or_create(str(tmp_path / "store"))
    made = run_recipe(Recipe.model_validate(whole), store, ["join"])
    assert store.open(made["pictures"]).reject_reasons == {"contaminated": 2}
    assert made["join"].rows == 6 + 5
    assert not set(store.open(made["join"]).table()["caption"].to_pylist()) & {CAPTIONS[2], CAPTIONS[5]}
    free = Recipe.model_validate({**whole, "pictures": {**whole["pictures"], "evaluation": []}})
    assert run_recipe(free, store, ["pictures"])["pictures"].rows == 7


def test_plan_says_where_pictures_may_show_what_the_student_is_judged_by(tmp_path: Path) -> None:
    corpora = [{"kind": "scenes", "split": "test", "count": 12}]
    given: dict[str, Any] = {
        "name": "judged",
        "pictures": {"sets": [{"kind": "folder", "path": "photos", "source": "mine", "licence": "CC0"}]},
        "test": {"source": {"corpora": corpora}, "select": {}},
        "evaluate": {"detector": {"kind": "scenes"}},
    }
    (gap,) = [one for one in fit_problems(Recipe.model_validate(given)) if one.where.endswith("evaluation")]
    assert (gap.where, gap.weight) == ("pictures.evaluation", "gap")
    given["pictures"]["evaluation"] = corpora
    assert not [one for one in fit_problems(Recipe.model_validate(given)) if one.where.endswith("evaluation")]


def test_a_list_that_changes_meanwhile_ends_the_stage(tmp_path: Path) -> None:
    folder, lists = beside(tmp_path / "set"), evaluated(tmp_path, "one prompt of four words")
    config = PicturesConfig.model_validate(
        {"sets": [{"kind": "folder", "path": str(folder), "source": "mine", "licence": "CC0"}], "evaluation": lists}
    )
    works = context(tmp_path)
    pictures(config, works)
    evaluated(tmp_path, "another prompt of five words")
    made = works.store.open("images@latest")
    work = Work.of(made.plan, config, [], works, f"{stage.__name__}:open", stage.Needs(unit="images", total=7))
    with pytest.raises(InputChanged, match="the lists hold"):
        stage.open(work, Worker(works.store, "cpu"))
