"""`build-distill-set` on real captions with tiny random Flux, VAE and T5, on a folder and on a real S3 server."""

from pathlib import Path

import pytest

from flows.build_distill_set import build_distill_set
from lightgen.encoders.tiny import tiny_t5, tiny_vae
from lightgen.generators.tiny_flux import tiny_flux
from lightgen.operations.run import run_recipe
from lightgen.recipe import load_recipe
from lightgen.storage.store import open_or_create, open_store
from lightgen.texts import normalised

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "tests" / "recipes" / "real_corpora.yaml"
DATA = ROOT / ".." / "shared" / "data"
FILES = ("coco_val2017_captions.tsv", "parti_prompts.tsv", "laion400m_sample_10k.parquet")
GENEVAL = "geneval_evaluation_metadata.jsonl"
STEPS = ("source", "select", "generate", "score-pixels", "filter", "fit-vae", "texts", "encode-16px", "encode-32px")

missing = [name for name in (*FILES, GENEVAL) if not (DATA / name).exists()]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing), reason=f"not beside the checkout, in ../shared/data: {', '.join(missing)}"),
]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """Paths of the corpora and of the models, by dotted key."""
    folder = tmp_path_factory.mktemp("models")
    flux, vae, t5 = (make(folder / make.__name__) for make in (tiny_flux, tiny_vae, tiny_t5))
    keys = {f"source.corpora.{place}.path": str(DATA / name) for place, name in enumerate(FILES)}
    keys |= {"select.evaluation.0.path": str(DATA / GENEVAL), "generate.generator.model": str(flux)}
    for place in range(2):
        keys |= {f"encode.{place}.vae.model": str(vae), "texts.encoder.model": str(t5)}
    return keys


def build(store, overrides, served):
    """A run of the flow recorded by the Prefect server: every stage is a task run, and leaves its page."""
    run, state = served.run_here(build_distill_set, recipe=str(RECIPE), overrides=overrides, store=store)
    pages = {key.removesuffix("-page") for key in served.artifacts(run) if key.endswith("-page")}
    assert pages == set(STEPS)
    return state.result()


@pytest.fixture(scope="module")
def local(overrides, served, tmp_path_factory):
    return build(str(tmp_path_factory.mktemp("local")), overrides, served)


@pytest.fixture(scope="module")
def remote(overrides, served, s3_store_uri, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield build(s3_store_uri, overrides, served)


def refs(made):
    return [made[step] for step in STEPS]


def opened(ref):
    return open_store(ref.uri).open(ref)


def assert_nothing_vanished(made):
    """What a stage was given is what it kept and what it refused, and every refusal says why."""
    for ref in refs(made):
        version = opened(ref)
        rejects = version.rejects().to_pylist()
        assert all(row["reason"] for row in rejects)
        assert version.reject_reasons == {
            reason: sum(row["reason"] == reason for row in rejects) for reason in {row["reason"] for row in rejects}
        }
        if ref.kind in ("prompts", "images", "kept", "features"):
            given = opened(version.parents[0]).rows
            assert given == version.rows + len(rejects), f"{ref.kind}: rows vanished"


def test_rows_in_are_rows_out_and_rejects_on_disk(local):
    assert_nothing_vanished(local)
    captions = opened(local["source"])
    assert captions.rows + sum(captions.reject_reasons.values()) == 400 + 300 + 300
    assert set(captions.table()["source"].to_pylist()) == {"coco-captions-val2017", "parti-prompts", "laion400m-sample"}
    assert opened(local["select"]).rows == 12
    assert all(ref.rows > 0 for ref in refs(local))


def test_evaluation_prompts_are_thrown_out(overrides, local, tmp_path):
    """Captions of a file that repeats GenEval's prompts are refused, each as contaminated."""
    planted = {"kind": "jsonl", "path": str(DATA / GENEVAL), "source": "planted", "field": "prompt", "limit": 50}
    recipe = load_recipe(str(RECIPE), {**overrides, "source.corpora.2": planted})
    store = open_or_create(str(tmp_path))
    made = run_recipe(recipe, store, ["select"])
    captions, prompts = made["source"], opened(made["select"])
    foreign = {normalised(row["caption"]) for row in opened(captions).table().to_pylist() if row["source"] == "planted"}
    assert len(foreign) == 50
    assert foreign.isdisjoint(normalised(caption) for caption in prompts.table()["caption"].to_pylist())
    assert prompts.reject_reasons["contaminated"] >= 50


def test_second_run_computes_nothing(local, overrides, served):
    before = {path: path.stat().st_mtime_ns for path in Path(local["source"].uri).rglob("*") if path.is_file()}
    again = build(local["source"].uri, overrides, served)
    assert refs(again) == refs(local)
    after = {path: path.stat().st_mtime_ns for path in Path(local["source"].uri).rglob("*") if path.is_file()}
    assert {path: at for path, at in after.items() if before.get(path) != at} == {}


def test_s3_gives_what_the_disk_gives(local, remote):
    assert_nothing_vanished(remote)
    assert [ref.fingerprint for ref in refs(remote)] == [ref.fingerprint for ref in refs(local)]
    assert [ref.version for ref in refs(remote)] == [ref.version for ref in refs(local)]


def test_second_run_on_s3_computes_nothing(remote, overrides, served):
    store = open_store(remote["source"].uri)
    logs = {ref.kind: store.log(ref.kind) for ref in refs(remote)}
    assert refs(build(remote["source"].uri, overrides, served)) == refs(remote)
    assert {ref.kind: store.log(ref.kind) for ref in refs(remote)} == logs
