"""Commands, programs and recipes in the documents do what the documents say: they are run.

`docs/guide.md` has a test of its own, and so has CONTRIBUTING.md. Here every other command runs on the store of a tiny
recipe that stands for the demo. What cannot run here is parsed as the command line would, and `NOT_RUN` says why.
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer.main
import yaml

from lightgen.cli import app
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe, load_recipe
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import open_or_create
from tests.documents import Block, blocks
from tests.lightgen.cli.terminal import lightgen

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FOLLOWED = ("guide", "CONTRIBUTING")  # by tests/test_guide.py and tests/test_contributing.py
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(lightgen [a-z][^`\n]*)`")
INDENTED = re.compile(r"^    (lightgen [a-z].*)$", re.MULTILINE)


def commands(path: Path) -> list[str]:
    """Lines that start with `lightgen` in blocks of code, and whole commands in running text, without comments."""
    text = path.read_text(encoding="utf-8")
    inside = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [line.strip() for line in inside.splitlines() if re.match("lightgen [a-z]", line.strip())]
    rest = FENCED.sub("", text)
    found = [*lines, *INDENTED.findall(rest), *INLINE.findall(rest)]
    return [re.split(r"\s+#\s|\s[|>]\s|\s{3,}|;\s|\s&$", line)[0] for line in found]


FOUND = [(path, command) for path in DOCUMENTS if path.stem != "guide" for command in dict.fromkeys(commands(path))]
WHOLE = list(dict.fromkeys(command for path, command in FOUND if path.stem not in FOLLOWED and " " in command[9:]))


def test_commands_are_found():
    assert len(FOUND) > 60
    assert len(WHOLE) > 40
    assert "lightgen ls" in [command for _, command in FOUND]


@pytest.mark.parametrize(("path", "command"), FOUND, ids=[f"{path.stem}: {command}" for path, command in FOUND])
def test_it_is_a_command(path, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(command):
        (tmp_path / word.replace("/", "_")).touch()  # some arguments are files that are there
    check(re.sub(r"\bN\b", "1000", command), whole=" " in command.removeprefix("lightgen "))


@pytest.mark.parametrize(
    "command",
    ["lightgen show --rejects images", "lightgen nonsense", "lightgen ls --nothing", "lightgen gc --grace-days soon"],
)
def test_a_command_that_is_none_is_noticed(command):
    with pytest.raises(Exception, match=r"No such option|not a valid|valid number|nonsense"):
        check(command, whole=True)


def check(command: str, whole: bool) -> None:
    """Parse a command as the command line would; a bare name in running text need not have its arguments."""
    words = shlex.split(command)[1:]
    parser = typer.main.get_command(app)
    while words and hasattr(parser, "commands"):
        parser = parser.commands[words.pop(0)]  # pyright: ignore[reportAttributeAccessIssue]
    if whole and words:
        parser.make_context("lightgen", words)


# What a word stands for here.
STANDS_FOR = {
    "RECIPE": "demo", "REF": "prompts@test", "CHECKPOINT": "checkpoint@dpo", "CAPTION": "'a red triangle'",
    "IMAGE": "image.png", "MASK": "mask.png", "FOLDER": "folder", "S": "store", "seed=N": "seed=7", "N": "1000",
    "filter.…": "filter.rules.1.least=0.1", "my.yaml": "recipes/demo.yaml", "recipes/ours.yaml": "recipes/demo.yaml",
    "s3://bucket/store": "store", "/shared/store": "store", "ID": "'a red triangle'",
}  # fmt: skip
IN_SMALL = "takes minutes; tests/lightgen/bench runs it in small"
NOT_RUN = {
    "lightgen bench ": IN_SMALL,
    "lightgen ablate ": "many trainings; tests/lightgen/operations/test_ablation.py runs a small one",
    "lightgen import-official ": "3 GB of weights; tests/lightgen/operations/test_official.py reads random ones",
    "lightgen job ": "wants a run that is not trained yet; tests/lightgen/operations/test_training_job.py has one",
    "lightgen run compare": "wants models of the hub; `make check` rehearses it",
    "lightgen run RECIPE --until generate-dalle3": "wants a mix; tests/lightgen/stages/test_mix.py runs parts of one",
    "lightgen rejects images@train-dalle3": "wants a mix; tests/lightgen/stages/test_mix.py refuses in one",
    "lightgen run ablations/base ": "a whole training; tests/lightgen/operations/test_ablation.py runs a small one",
    "lightgen volume ": "wants 240 captions; tests/lightgen/operations/test_volume.py draws its curve",
    "lightgen retry ": "wants links that failed; tests/flows/test_links.py retries them",
    "lightgen gallery links": "wants links; tests/flows/test_links.py has the page",
    "lightgen geneval ": "wants GenEval's folders; tests/lightgen/stages/test_adopt.py reads them",
    "lightgen export CHECKPOINT FOLDER --text-encoder": "wants a T5; tests/lightgen/pipeline copies a tiny one",
    "lightgen rejects images --reason refused": "wants an API that refuses; tests/test_guide.py has one",
}
PLANS = ("lightgen plan ", "lightgen rehearse ")  # exit code 1 says that something is missing, which is an answer


def runs(command: str) -> bool:
    return not any(command.startswith(words) for words in NOT_RUN)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with recipes `demo` and `prompts.yaml`, the store of both, and two pictures."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "recipes").mkdir()
    shutil.copy(ROOT / "tests/recipes/tiny.yaml", folder / "recipes/demo.yaml")
    (folder / "captions.csv").write_text("caption\n" + "".join(f"{n} ducks on a pond\n" for n in range(600)))
    recipe = next(block for block in blocks(ROOT / "README.md") if block.file == "prompts.yaml")
    (folder / "prompts.yaml").write_text(recipe.body, encoding="utf-8")
    run_recipe(load_recipe(str(folder / "recipes/demo.yaml")), open_or_create(str(folder / "store")))
    for name in ("image", "mask"):
        (folder / f"{name}.png").write_bytes(encode_image(np.full((32, 32, 3), 255, np.uint8), "png"))
    return folder


@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("command", list(filter(runs, WHOLE)))
def test_the_command_runs(command: str, place: Path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.delenv("LIGHTGEN_STORE", raising=False)
    shutil.rmtree(place / "folder", ignore_errors=True)
    shutil.rmtree(place / "student", ignore_errors=True)
    words = shlex.split(" ".join(STANDS_FOR.get(word, word) for word in command.split(" ")))
    code, out, err = lightgen(*words[1:], monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 or (code == 1 and command.startswith(PLANS)), out + err
    assert out


def test_what_is_not_run_is_there_and_said_with_a_reason():
    assert [words for words in NOT_RUN if not any(command.startswith(words) for command in WHOLE)] == []
    tests = re.findall(r"tests/[a-z_/.]+", " ".join(NOT_RUN.values()))
    assert [name for name in tests if not (ROOT / name).exists()] == []


# Other programs in blocks, and who runs them.
PROGRAMS = {
    "make": "the targets are held to the Makefile below",
    "prefect": "tests/flows/test_serve.py and test_deploy.py",
    "source": "activates an environment",
    "srun": "no Slurm here", "docker": "no container engine here", "kubectl": "no cluster here",
    "hf": "uploads", "mlcroissant": "tests/lightgen/export/test_croissant.py",
    "for": "a loop around prefect", "LIGHTGEN_HOME=/opt/lightgen": "tests/flows/test_deploy.py",
}  # fmt: skip


def test_every_line_of_a_block_is_run_or_has_somebody_who_runs_it():
    found = [block for path in DOCUMENTS if path.stem not in FOLLOWED for block in blocks(path)]
    lines = [line for block in found if block.language in ("", "sh") for line in block.body.splitlines() if line]
    assert len(lines) > 30
    assert {line.split()[0] for line in lines} == {"lightgen", *PROGRAMS}


PYTHON = [
    block for path in DOCUMENTS if path.stem not in FOLLOWED for block in blocks(path) if block.language == "python"
]


def test_the_program_of_ray_train_is_one():
    """Its workers take GPUs, and none are here: it is loaded with Ray Train, and not run."""
    (program,) = (block for block in PYTHON if "TorchTrainer" in block.body)
    pytest.importorskip("ray.train", reason="Ray is not installed")
    assert {"train_loop_per_worker", "fit"} <= set(done(program))


def test_no_program_is_forgotten():
    """The other one is that of docs/student.md, which tests/lightgen/pipeline/test_docs.py runs."""
    assert [("TorchTrainer" in block.body, "from_pretrained" in block.body) for block in PYTHON] == [
        (True, False),
        (False, True),
    ]


def done(program: Block) -> dict:
    named: dict = {"__name__": "docs"}
    exec(compile(program.body, program.section, "exec"), named)
    return named


def test_make_targets_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8"))}
    assert named
    assert named <= targets


BEGUN = {"source": {"corpora": [{"kind": "scenes", "split": "train", "count": 6}]}, "select": {}}
DRAWN = {**BEGUN, "generate": {"generator": {"kind": "scenes"}, "size_px": 64}, "filter": {}}
ENCODED = {
    "texts": {"encoder": {"kind": "words"}},
    "encode": [{"size_px": 64, "vae": {"kind": "patch_pca"}}],
}
YAML = [(path, block) for path in DOCUMENTS for block in blocks(path) if block.language == "yaml"]


@pytest.mark.parametrize(
    ("path", "block"), YAML, ids=[f"{path.stem} {number}" for number, (path, _) in enumerate(YAML)]
)
def test_recipes_in_the_documents_are_recipes(path, block):
    """A block shows parts of a recipe; what it leaves out is put before it."""
    given = yaml.safe_load(re.sub(r"<[^>]*>", "a" * 40, block.body))
    if given is None or "apiVersion" in given:
        return  # the line that names the schema, and a job of Kubernetes, which tests/flows/test_deploy.py renders
    begun = {} if "pictures" in given else DRAWN if "encode" in given or "pretrain" in given else BEGUN
    encoded = ENCODED if "pretrain" in given and "encode" not in given else {}
    Recipe.model_validate({"name": "of the page", **begun, **encoded, **given})


def test_recipes_name_the_schema_in_their_first_line():
    whole = [block for _, block in YAML if block.file] + [
        Block("", "yaml", path.read_text(), path.name) for path in (ROOT / "recipes").glob("*.yaml")
    ]
    assert len(whole) > 7
    assert {block.body.split("\n")[0] for block in whole} == {"# yaml-language-server: $schema=recipe.schema.json"}
