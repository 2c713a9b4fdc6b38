"""The command line over a real store: what a person types, what is printed, and with which exit code."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightgen import cli
from lightgen.cli import console
from lightgen.errors import ConfigError
from lightgen.recipe import RECIPES
from lightgen.storage.store import KINDS, open_or_create
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import pairs as sealed_pairs

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Calls `lightgen ARGUMENTS` in an empty folder: (exit code, out, err)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lightgen", *map(str, arguments)])
        # The consoles were made at import, when other streams were in place.
        monkeypatch.setattr(console.out, "_file", sys.stdout)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def copy(chain: Chain, tmp_path: Path) -> Path:
    """A store of one's own to damage."""
    return Path(shutil.copytree(chain.store.uri, tmp_path / "copy"))


@pytest.fixture
def student(chain: Chain) -> str:
    """The checkpoint's ref; `latest` may be another test's."""
    return f"checkpoint@{chain.checkpoint.version}"


def test_ls_lists_every_version_with_its_digest(run: Run, chain: Chain) -> None:
    code, out, _ = run("ls", "--store", chain.store.uri)
    assert code == 0
    for ref in (chain.prompts, chain.images, chain.kept, chain.vae, chain.features, chain.checkpoint):
        assert re.search(rf"^ ?{ref.version[:12]} +{ref.kind}@", out, re.MULTILINE)
    assert "checkpoint@" not in run("ls", "images", "--store", chain.store.uri)[1]


def test_ls_of_an_empty_store_says_so(run: Run, tmp_path: Path) -> None:
    open_or_create(str(tmp_path / "new"))
    assert run("ls", "--store", tmp_path / "new")[1].strip() == "nothing is published in this store yet"


def test_the_store_comes_from_the_environment(run: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTGEN_STORE", chain.store.uri)
    assert chain.images.version[:12] in run("ls")[1]


def test_show_prints_rows_reasons_and_recipe_and_nothing_a_caption_smuggled_in(run: Run, chain: Chain) -> None:
    code, out, _ = run("show", f"prompts@{chain.prompts.version}", "--store", chain.store.uri)
    assert code == 0
    assert "too_long" in out
    assert re.search(r"rows +\d+ in = \d+ out \+ 1 rejected", out)
    assert "\x1b[31mred" not in out


def test_verify_names_the_damaged_file(run: Run, copy: Path, chain: Chain) -> None:
    assert run("verify", "--all", "--store", copy)[0] == 0
    victim = next(copy.rglob("*.tar"))
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(raw)
    code, out, _ = run("verify", "--all", "--store", copy)
    assert code == 1
    assert victim.name in out
    assert run("verify", f"prompts@{chain.prompts.version}", "--store", copy)[0] == 0


def test_verify_wants_one_ref_or_all(run: Run, chain: Chain) -> None:
    code, _, err = run("verify", "--store", chain.store.uri)
    assert code == 2
    assert "give one REF, or --all" in err


def test_diff_of_a_version_with_itself_is_empty(run: Run, chain: Chain) -> None:
    _, out, _ = run("diff", *[f"images@{chain.images.version}"] * 2, "--store", chain.store.uri)
    assert out.strip() == "0 added, 0 removed, 0 changed"


def test_trace_follows_a_caption_to_the_checkpoint(run: Run, chain: Chain) -> None:
    id = chain.store.open(chain.prompts).table()["id"][0].as_py()
    _, out, _ = run("trace", id, "--store", chain.store.uri)
    kinds = [line.split("@")[0].split()[-1] for line in out.splitlines() if "@" in line]
    assert kinds[0] == "prompts"
    assert {"images", "scores", "kept", "features", "checkpoint"} <= set(kinds)


def test_gallery_writes_one_page(run: Run, chain: Chain, tmp_path: Path) -> None:
    code, out, _ = run("gallery", f"images@{chain.images.version}", "--store", chain.store.uri)
    page = tmp_path / f"images-{chain.images.version[:12]}.html"
    assert code == 0
    assert page.name in out
    assert page.read_text(encoding="utf-8").count("data:image/webp;base64,") == chain.images.rows


def test_generate_draws_rows_of_captions(run: Run, chain: Chain, student: str, tmp_path: Path) -> None:
    command = [
        "generate",
        student,
        "two red circles",
        "a blue cross",
        "--samples",
        3,
        "--scale",
        2,
    ]
    code, out, _ = run(*command, "--to", tmp_path / "a.png", "--store", chain.store.uri)
    assert code == 0
    assert "2 x 3 images of 32 x 32 px" in out
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 3 * 64
        assert image.height >= 2 * 64
    run(*command, "--to", tmp_path / "b.png", "--store", chain.store.uri)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_generate_draws_other_sizes(run: Run, chain: Chain, student: str, tmp_path: Path) -> None:
    store = ("--store", chain.store.uri, "--to", tmp_path / "wide.png", "--samples", 1, "--scale", 1)
    assert "1 x 1 images of 48 x 32 px" in run("generate", student, "a cross", "--width", 48, *store)[1]
    code, _, err = run("generate", student, "a cross", "--width", 44, *store)
    assert code == 2
    assert "multiples of 8 px" in err


def test_inpaint_changes_the_masked_part_only(run: Run, chain: Chain, student: str, tmp_path: Path) -> None:
    before = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:12] = 255
    Image.fromarray(before).save(tmp_path / "in.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = [
        "inpaint",
        student,
        tmp_path / "in.png",
        tmp_path / "mask.png",
        "a red circle",
        "--samples",
        1,
    ]
    code, out, _ = run(*words, "--to", tmp_path / "out.png", "--store", chain.store.uri)
    assert code == 0
    assert "12% of each drawn again" in out
    with Image.open(tmp_path / "out.png") as image:
        after = np.asarray(image.convert("RGB"))[::3, ::3]  # small pictures are enlarged by a whole factor
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert not np.array_equal(after[mask > 0], before[mask > 0])


@pytest.mark.parametrize("command", ["generate", "inpaint"])
@pytest.mark.parametrize(
    ("there", "asked", "device"), [(True, "auto", "cuda"), (False, "auto", "cpu"), (True, "cpu", "cpu")]
)
def test_drawing_takes_the_gpu_where_there_is_one(
    command: str, there: bool, asked: str, device: str, run: Run, chain: Chain, student: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def opened(*given: object) -> None:
        raise ConfigError(f"on {given[2]}")

    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    monkeypatch.setattr("lightgen.generators.sampler.Sampler.from_checkpoint", opened)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "in.png")
    given = [tmp_path / "in.png", tmp_path / "in.png", "a cross"] if command == "inpaint" else ["a cross"]
    code, _, err = run(command, student, *given, "--device", asked, "--store", chain.store.uri)
    assert code == 2
    assert f"on {device}" in err


def test_a_gpu_that_is_not_there_is_refused(run: Run, chain: Chain, student: str) -> None:
    code, _, err = run("generate", student, "a cross", "--device", "cuda", "--store", chain.store.uri)
    assert code == 2
    assert "torch sees no GPU here" in err


def test_export_writes_a_folder_of_diffusers(run: Run, chain: Chain, student: str, tmp_path: Path) -> None:
    code, out, _ = run("export", student, tmp_path / "folder", "--store", chain.store.uri)
    assert code == 0
    assert "folder" in out
    assert (tmp_path / "folder" / "student" / "diffusion_pytorch_model.safetensors").is_file()
    code, _, err = run("export", student, tmp_path / "folder", "--store", chain.store.uri)
    assert code == 2
    assert "is not an empty folder; nothing was written" in err


def test_generate_wants_a_checkpoint(run: Run, chain: Chain) -> None:
    code, _, err = run("generate", "images@latest", "a cross", "--store", chain.store.uri)
    assert code == 2
    assert "is of kind images; give a checkpoint" in err


def test_tag_retire_and_gc(run: Run, copy: Path, chain: Chain) -> None:
    named = f"checkpoint@{chain.checkpoint.version}"
    assert run("tag", f"prompts@{chain.prompts.version}", "first", "--store", copy)[0] == 0
    assert chain.prompts.version in run("show", "prompts@tag:first", "--store", copy)[1]
    opened = open_or_create(str(copy))
    for kind in KINDS:  # other tests made versions of the checkpoint
        for version in {entry.version for entry in opened.log(kind) if kind != "prompts"}:
            if version == chain.checkpoint.version:
                assert run("retire", named, "--store", copy)[0] == 0
            else:
                opened.retire(f"{kind}@{version}")
    assert "retired" in run("ls", "checkpoint", "--store", copy)[1]
    assert run("show", named, "--store", copy)[0] == 0
    assert "nothing to delete" in run("gc", "--store", copy)[1]  # younger than the time of grace
    assert "to delete" in run("gc", "--grace-days", 0, "--store", copy)[1]
    assert run("show", named, "--store", copy)[0] == 0
    assert "deleted; listed in gc/" in run("gc", "--grace-days", 0, "--apply", "--store", copy)[1]
    assert not (copy / "v" / "checkpoint" / chain.checkpoint.version).exists()
    assert run("show", named, "--store", copy)[0] == 2
    assert run("verify", "--all", "--store", copy)[0] == 0


def test_sweep_lays_rates_side_by_side(run: Run, chain: Chain, tmp_path: Path, sample) -> None:
    pairs, _ = sealed_pairs(chain.store, 6)
    text = (RECIPES / "demo.yaml").read_text()
    loop = "loop: &align_loop {steps: 3, log_every: 1, threads: 1, optimizer: &align_rate {lr: 1.0e-5}}"
    short = re.sub(r"loop: &align_loop \{steps: 100, .*", loop, text)
    assert short != text
    (tmp_path / "short.yaml").write_text(short)
    refs = (f"checkpoint@{chain.checkpoint.version}", f"pairs@{pairs.version}", "--store", chain.store.uri)
    code, out, _ = run("sweep", *refs, "--recipe", "short.yaml", "--rates", "1e-3,1e-5")
    assert code == 0
    assert re.search(r"lr +loss +accuracy +margin_p10", out)
    assert re.findall(r"^ *([\d.e-]+) .*checkpoint@", out, re.MULTILINE) == ["1e-05", "0.001"]
    assert run("sweep", *refs, "--rates", "much")[0] == 2


def test_an_unknown_version_is_one_line(run: Run, chain: Chain) -> None:
    code, out, err = run("show", "images@99", "--store", chain.store.uri)
    assert (code, out) == (2, "")
    assert err.startswith("lightgen:")
    assert "Traceback" not in err


@pytest.mark.parametrize("what", [["dedup", "--rows", "200"], ["shards", "--rows", "20"]], ids=lambda w: w[0])
def test_bench_prints_a_ratio_to_a_baseline(run: Run, what: list[str]) -> None:
    code, out, _ = run("bench", *what)
    assert code == 0
    assert re.search(r"ours is \d+\.\d+x|ours is, least +median", out)
