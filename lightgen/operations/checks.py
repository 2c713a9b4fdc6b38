"""What does not fit together in a recipe: parts left out, and settings of one part that another contradicts."""

from collections.abc import Iterator, Mapping, Sequence

from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.decisions.auditing import TEXT_IGNORED
from lightgen.decisions.derive import Geneval, Scenes, derived_names
from lightgen.encoders.t5 import T5Config
from lightgen.model.config import StudentConfig
from lightgen.problems import Problem
from lightgen.recipe import Audit, HeldOut, Recipe, Use
from lightgen.scorers.config import AnyScorer
from lightgen.stages.fetch import FetchConfig
from lightgen.stages.filter import OWN, FilterConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.mix import drawings
from lightgen.stages.pair import LINKS, PairConfig
from lightgen.stages.pictures import PicturesConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.recaption import RecaptionConfig
from lightgen.stages.select import SelectConfig
from lightgen.stages.source import SourceConfig


def fit_problems(recipe: Recipe) -> Iterator[Problem]:
    """Every such problem of a recipe, `where` as dotted keys; nothing is read but small files."""
    yield from _left_out(recipe)
    yield from _contamination(recipe)
    yield from _captions(recipe)
    yield from _columns(recipe)
    yield from _encoders(recipe)
    yield from _students(recipe)
    yield from _control(recipe)
    yield from _judged(recipe)


def _gap(where: str, what: str, fix: str) -> Problem:
    return Problem("recipe", where, what, fix, "gap")


def _wrong(where: str, what: str, fix: str) -> Problem:
    return Problem("recipe", where, what, fix)


def _left_out(recipe: Recipe) -> Iterator[Problem]:
    if recipe.pretrain and recipe.evaluate is None:
        unknown = "what alignment changed" if recipe.align else "what the student can draw"
        yield _gap("evaluate", f"no evaluation: {unknown} will not be known", "add test and evaluate")
    if recipe.align is not None and recipe.control is None:
        what = "no control: that more training alone would do as much is not ruled out"
        yield Problem("recipe", "control", what, "add control: {objective: sft, ...}", "remark")


def _contamination(recipe: Recipe) -> Iterator[Problem]:
    """Captions that are trained on must not be those of the evaluation; scenes of two splits never are."""
    if recipe.evaluate is None or recipe.test is None or not isinstance(recipe.test.source, SourceConfig):
        return
    tested = recipe.test.source.corpora
    for key, evaluation in _trained_on(recipe, tested):
        missing = [corpus for corpus in tested if corpus not in evaluation]
        if missing:
            what = "decontamination is off" if not evaluation else "decontamination leaves test captions out"
            fix = "name the corpora of test.source there"
            yield _gap(f"{key}.evaluation", f"{what}: the student may train on what it is judged by", fix)


def _trained_on(recipe: Recipe, tested: Sequence[CorpusConfig]) -> Iterator[tuple[str, list[CorpusConfig]]]:
    """Parts that choose or write captions which may be those of the test, with the lists that they are held against."""
    pairs = recipe.held_out if recipe.pair and recipe.pair.winner != LINKS else None
    for key, source, select in (
        ("select", recipe.source, recipe.select),
        *((("held_out.select", pairs.source, pairs.select),) if pairs else ()),
    ):
        if isinstance(source, SourceConfig) and isinstance(select, SelectConfig) and _may_meet(source.corpora, tested):
            yield key, select.evaluation
    if isinstance(recipe.pictures, PicturesConfig) and recipe.recaption is None:
        inherited = recipe.select.evaluation if isinstance(recipe.select, SelectConfig) else []
        yield "pictures", inherited if recipe.pictures.evaluation is None else recipe.pictures.evaluation
    photographs = recipe.links if recipe.pair and recipe.pair.winner == LINKS else None
    for key, part in (("recaption", recipe.recaption), ("links.recaption", photographs and photographs.recaption)):
        if isinstance(part, RecaptionConfig):
            yield key, part.evaluation


def _may_meet(trained: Sequence[CorpusConfig], tested: Sequence[CorpusConfig]) -> bool:
    every = [*trained, *tested]
    apart = all(isinstance(corpus, ScenesCorpus) for corpus in every)
    splits = [{getattr(corpus, "split", "") for corpus in side} for side in (trained, tested)]
    return not apart or bool(splits[0] & splits[1])


def _captions(recipe: Recipe) -> Iterator[Problem]:
    text = recipe.texts.encoder if recipe.texts else None
    uses = {"source": recipe.source}
    uses |= {f"{name}.source": part.source for name, part in _held_out(recipe)}
    for key, source in uses.items():
        if not isinstance(source, SourceConfig) or text is None:
            continue
        counted = source.tokenizer if isinstance(source.tokenizer, str) else source.tokenizer.model
        if isinstance(text, T5Config) and counted != text.model:
            what = f"counts tokens by {counted}, and {text.model} cuts at {text.max_tokens} of its own"
            yield _gap(f"{key}.tokenizer", what, f"give the model and revision of {text.model}")
        if source.max_tokens > text.max_tokens:
            what = f"lets {source.max_tokens} tokens pass, and the text encoder cuts at {text.max_tokens}"
            yield _gap(f"{key}.max_tokens", what, f"take {text.max_tokens}")
    yield from _sources(recipe)


def _held_out(recipe: Recipe) -> list[tuple[str, HeldOut]]:
    used = {"held_out": recipe.held_out if recipe.pair else None, "test": recipe.test if recipe.evaluate else None}
    return [(name, part) for name, part in used.items() if part is not None]


def _sources(recipe: Recipe) -> Iterator[Problem]:
    """Weights by source name sources that captions can come from."""
    if not isinstance(recipe.source, SourceConfig):
        return
    known = set[str]().union(*(corpus.sources for corpus in recipe.source.corpora))
    for drawing in drawings(recipe.generate):
        if unknown := sorted(set(drawing.samples_by_source) - known):
            what, key = (
                f"no caption comes from {', '.join(unknown)}",
                f"mix.{drawing.part.name}." if drawing.part else "",
            )
            yield _wrong(f"generate.{key}samples_by_source", what, f"there are {', '.join(sorted(known))}")


def _columns(recipe: Recipe) -> Iterator[Problem]:
    """Rules and repeats name columns of scores that there are."""
    yield from _named("filter", recipe.filter, recipe.score)
    if recipe.links is not None:
        yield from _named("links.filter", recipe.links.filter, recipe.links.score)


def _named(key: str, part: FilterConfig | Use | None, scorers: Mapping[str, AnyScorer]) -> Iterator[Problem]:
    if not isinstance(part, FilterConfig):
        return
    known = {f"{name}.{column}" for name, scorer in scorers.items() for column in scorer.ANSWERS.names} | {*OWN}
    known |= {f"{name}.{column}" for name, how in part.derive.items() for column in derived_names(how)}
    for name in part.derive.keys() - scorers.keys():
        yield _wrong(f"{key}.derive.{name}", f"no score is called {name}", f"there are {', '.join(scorers)}")
    for group, named in (("rules", part.rules), ("repeats", part.repeats), ("best", part.best)):
        for number, rule in enumerate(named):
            if rule.column not in known:
                where = f"{key}.{group}.{number}.column"
                yield _wrong(where, f"no score has a column {rule.column}", f"there are {', '.join(sorted(known))}")


def _encoders(recipe: Recipe) -> Iterator[Problem]:
    sizes = [encode.size_px for encode in recipe.encode]
    if len(set(sizes)) < len(sizes):
        yield _wrong("encode", f"sizes {sizes} repeat", "give each resolution once")
    for number, encode in enumerate(recipe.encode):
        where = f"encode.{number}.size_px"
        if encode.vae != recipe.encode[-1].vae:
            yield _wrong(f"encode.{number}.vae", "differs from that of the last resolution", "one VAE serves all")
        side = min((side for drawing in drawings(recipe.generate) for side in drawing.sides or ()), default=None)
        if side is not None and encode.size_px > side:
            yield _gap(where, f"{encode.size_px} px of images of {side} px: they are enlarged", "generate larger")
        yield from _token_sides(recipe, number)


def _token_sides(recipe: Recipe, number: int) -> Iterator[Problem]:
    """An image is a whole number of tokens."""
    encode, student = recipe.encode[number], _student(recipe)
    if encode.vae.shape is None:
        what = f"what {encode.vae.kind} makes of a pixel is not known until its config.json is here: sizes not checked"
        yield Problem("recipe", f"encode.{number}.vae", what, "fetch the model", "remark")
        return
    token_px = encode.vae.shape[1] * (student.patch if student else 1)
    if encode.size_px % token_px:
        near = max(1, round(encode.size_px / token_px)) * token_px
        yield _wrong(f"encode.{number}.size_px", f"{encode.size_px} is no multiple of {token_px} px", f"take {near}")


def _students(recipe: Recipe) -> Iterator[Problem]:
    student = _student(recipe)
    if student is None:
        return
    assert recipe.texts is not None, "a recipe with a student has them"
    vae, text = recipe.encode[0].vae, recipe.texts.encoder
    if vae.shape is not None and vae.shape[0] != student.latent_channels:
        what = f"is {student.latent_channels}, and the latents of encode.0.vae have {vae.shape[0]} channels"
        yield _wrong("pretrain.0.student.latent_channels", what, f"take {vae.shape[0]}")
    if text.width is not None and text.width != student.text_dim:
        what = f"is {student.text_dim}, and the vectors of texts.encoder have {text.width} channels"
        yield _wrong("pretrain.0.student.text_dim", what, f"take {text.width}")
    if student.attend_padding and not (isinstance(text, T5Config) and text.padded):
        what = "is true, and texts.encoder gives no vectors of padding"
        yield _wrong("pretrain.0.student.attend_padding", what, "take {kind: t5, padded: true} there, or false here")
    for number, part in enumerate(recipe.pretrain[1:], 1):
        if isinstance(part, PretrainConfig) and part.known_sizes not in (None, student):
            what = "differs from that of the first resolution, whose weights training goes on from"
            yield _gap(f"pretrain.{number}.student", what, "give the same; it counts for nothing here")


# What makes the loss of masked diffusion, in pretraining and in a fine-tune on the winners.
OBJECTIVE = ("noise_copies", "masks", "mask_ratios", "time_power", "variance_bound")


def _control(recipe: Recipe) -> Iterator[Problem]:
    """More of the same training is what the control stands for, so its loss is that of the last resolution."""
    last = recipe.pretrain[-1] if recipe.pretrain else None
    if recipe.control is None or recipe.control.objective != "sft" or not isinstance(last, PretrainConfig):
        return
    for name in OBJECTIVE:
        found, wanted = getattr(recipe.control, name), getattr(last, name)
        if found != wanted:
            what = (
                f"is ({found}), and the last resolution was trained with ({wanted}): the control trains something else"
            )
            yield _gap(f"control.{name}", what, "take the same")


def _student(recipe: Recipe) -> StudentConfig | None:
    """The sizes of the student, where the recipe says them."""
    first = recipe.pretrain[0] if recipe.pretrain else None
    return first.known_sizes if isinstance(first, PretrainConfig) else None


def _judged(recipe: Recipe) -> Iterator[Problem]:
    """A detector judges prompts whose meaning is known: scene captions, and those of GenEval's metadata."""
    tested = recipe.evaluate
    judged = tested is not None and isinstance(tested.verdict, Scenes | Geneval)
    if tested is not None and judged and tested.metadata is None and _has_files(recipe.test):
        what = "no metadata: what the test captions ask for is not known, so all would be left out"
        yield _wrong("evaluate.metadata", what, "give GenEval's evaluation_metadata.jsonl")
    pair: PairConfig | None = recipe.pair
    if pair is None:
        return
    if pair.winner == "teacher" and not isinstance(recipe.generate, GenerateConfig):
        what = "the teacher is to win, and generate is `use:` or `mix:`, which does not say who draws the winners"
        yield _wrong("pair.winner", what, "give one generator as generate, or take winner: student")
    yield from _photographs(recipe, pair)
    yield from _unmeasured(recipe.audit)
    how = pair.verdict or pair.judge.verdict
    if isinstance(how, Scenes | Geneval) and _has_files(recipe.held_out):
        what = f"{pair.judge.kind} judges scene captions, and held-out captions come from files"
        yield _wrong("pair.judge", what, "take vlm, or scenes as corpora")


def _photographs(recipe: Recipe, pair: PairConfig) -> Iterator[Problem]:
    """Pictures of the web that are to win: judged by what reads captions, seen as the student's are, and audited."""
    if pair.winner != LINKS or recipe.links is None:
        return
    if pair.judge.kind in ("scenes", "mask2former"):
        what = f"{pair.judge.kind} knows what a prompt of the evaluation means, and not what a caption of the web does"
        yield _wrong("pair.judge", what, "take vlm")
    fetch = recipe.links.fetch
    if isinstance(fetch, FetchConfig) and fetch.crop_px is None:
        what = "pictures stay as they were received: a judge may tell winners by their size and their traces of JPEG"
        yield _gap("links.fetch.crop_px", what, "take the size that the student draws")
    if recipe.audit is None:
        yield Problem("recipe", "audit", "no audit: nothing says whether the judge can be trusted", "add audit", "gap")


# Bounds of an audit by the part of it that measures their figures.
MEASURED_BY = {
    "verdicts": ("least_accuracy", "least_alpha"),
    "second": ("least_agreement", "least_kappa"),
    "compare": ("least_order",),
}


def _unmeasured(audit: Audit | None) -> Iterator[Problem]:
    """Bounds on what the audit would not measure, which it would refuse once all is judged and paid."""
    if audit is None:
        return
    for part, bounds in MEASURED_BY.items():
        for bound in bounds:
            if getattr(audit, bound) is not None and getattr(audit, part) is None:
                what = "is a bound on what would not be measured"
                yield _wrong(f"audit.{bound}", what, f"give audit.{part}, or leave it out")
    made = set[str](audit.probe.probes)
    if made >= {"shuffled_caption", "text_in_image"}:
        made.add(TEXT_IGNORED)
    for name in sorted(set(audit.least_probe or {}) - made):
        yield _wrong("audit.least_probe", f"probe {name} would not be made", "add it to audit.probe.probes")


def _has_files(part: HeldOut | None) -> bool:
    """Whether captions come from elsewhere than the scene world."""
    if part is None or not isinstance(part.source, SourceConfig):
        return False
    return not all(isinstance(corpus, ScenesCorpus) for corpus in part.source.corpora)
