"""Small changes of the sources that a golden must notice: for each subject, one or more."""

import functools
import importlib
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """`old` in the source of a module is written as `new`."""

    module: str
    old: str
    new: str

    def source(self) -> tuple[ModuleType, str]:
        """The module and its source, in which `old` stands once."""
        module = importlib.import_module(self.module)
        source = inspect.getsource(module)
        assert source.count(self.old) == 1, f"{self.module} has {source.count(self.old)} of {self.old!r}"
        return module, source

    @contextmanager
    def alive(self) -> Iterator[None]:
        """The module runs the changed source: functions and methods in place, and constants of the module."""
        module, source = self.source()
        fresh = ModuleType(module.__name__)
        fresh.__dict__.update({"__file__": module.__file__, "__spec__": module.__spec__})
        changed = source.replace(self.old, self.new).replace("cache=True", "cache=False")  # numba caches files only
        exec(compile(changed, f"<mutant of {self.module}>", "exec"), fresh.__dict__)
        with ExitStack() as undo:
            _take_over(vars(module), vars(fresh), module, undo)
            yield


def _take_over(old: Any, new: Any, owner: Any, undo: ExitStack) -> None:
    """Gives functions of `old` the code of those of `new`; other values of a module are exchanged."""
    for name, value in list(old.items()):
        theirs = new.get(name)
        function, other = _plain(value), _plain(theirs)
        if function is not None and other is not None and function.__module__ == _name(owner):
            _swap_code(function, other, value, undo)
        elif inspect.isclass(value) and inspect.isclass(theirs) and value.__module__ == _name(owner):
            _take_over(vars(value), vars(theirs), value, undo)
        elif isinstance(owner, ModuleType) and _is_constant(value) and theirs != value and theirs is not None:
            undo.callback(setattr, owner, name, value)
            setattr(owner, name, theirs)


def _swap_code(function: FunctionType, other: FunctionType, wrapped: Any, undo: ExitStack) -> None:
    if function.__code__.co_freevars != other.__code__.co_freevars:
        return
    clear = getattr(wrapped, "cache_clear", lambda: None)
    undo.callback(clear)
    undo.callback(setattr, function, "__code__", function.__code__)
    function.__code__ = other.__code__
    clear()


def _plain(value: Any) -> FunctionType | None:
    """The function in a method, a property, or a cache."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, functools.cached_property):
        value = value.func
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None


def _name(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else owner.__module__


def _is_constant(value: Any) -> bool:
    return isinstance(value, int | float | str | bytes | tuple | list | dict | frozenset | set)


def _of(module: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(f"lightgen.{module}", old, new) for old, new in changes]


MUTANTS: dict[str, list[Mutant]] = {
    "corpus scenes": _of("corpora.scenes", ("count // len(TASKS)", "1 + count // len(TASKS)")),
    "corpus text": _of("corpora.text", ('line.rstrip(b"\\r")', "line")),
    "corpus jsonl": _of("corpora.jsonl", ("rows = first + np.arange(", "rows = 1 + first + np.arange(")),
    "corpus table": _of("corpora.table", ("{count} values under", "{width} values under")),
    "corpus parquet": _of("corpora.parquet", ("before, size)", "before, size - 1)")),
    "corpus json": _of("corpora.json_document", ("first + np.arange(", "first + 1 + np.arange(")),
    "corpus coco": _of("corpora.coco", ('return "annotations"', 'return "images"')),
    "corpus conversations": _of("corpora.conversations", ("(~seen, NOT_SEEN)", "(seen, NOT_SEEN)")),
    "corpus webdataset": _of("corpora.webdataset", ("len(alike) == 1", "len(alike) > 1")),
    "corpus datasets": _of("corpora.hf_datasets", ("column[first:last]", "column[first + 1 : last]")),
    "links laion": _of("corpora.link_columns", ('("aesthetic", "aesthetic_score")', '("aesthetic",)')),
    "stage links": _of("stages.links", ("{row:012x}", "{row:013x}"), ('(None, "", "?")', '(None, "")')),
    "stage fetch": _of(
        "fetch.finishing", ("return Got(data, format, *sides,", "return Got(data, format, *sides[::-1],")
    )
    + _of("fetch.web", ("REDIRECTS, ROBOTS_REDIRECTS = 3", "REDIRECTS, ROBOTS_REDIRECTS = 1")),
    "generator scenes": _of("scenes.draw", ("_SHADE = 0.03", "_SHADE = 0.06"), ("_OFFSET = 0.255", "_OFFSET = 0.27")),
    "generator sprites": _of("generators.sprites", ("Image.Resampling.BOX", "Image.Resampling.NEAREST")),
    "generator flux": _of("generators.flux", ("self.config.guidance,", "1.0,"), ("self.config.max_tokens}", "16}"))
    + _of("generators.pipelines", ("manual_seed(seed)", "manual_seed(seed + 1)")),
    "generator diffusers": _of(
        "generators.diffusers",
        ('if ours != "negative_prompt"}', 'if ours == "max_tokens"}'),
        ("if self.config.negative_prompt else {}", "if not self.config.steps else {}"),
    ),
    "pictures folder": _of("corpora.picture_folder", ("self._listed()][: self.limit]", "self._listed()][1:]")),
    "pictures webdataset": _of(
        "corpora.tar_samples", ('removeprefix("./").rpartition', 'removeprefix("s").rpartition')
    ),
    "pictures parquet": _of("corpora.picture_tables", ('value.get("path") or name', "name")),
    "stage pictures": _of(
        "stages.pictures",
        ("{one.row:012x}", "{one.row:013x}"),
        ('"index": 0', '"index": 1'),
        ("prompts, config.contamination)\n", "prompts, ContaminationConfig())\n"),
    ),
    "generator images api": _of(
        "generators.images_api",
        ("return round(1 - scale", "return -round(1 - scale"),
        ("seed % 2**31", "seed % 2**30 + 1"),
        ("Revised(cropped, revised)", 'Revised(cropped, "")'),
    ),
    "generator student": _of("model.sampling", ("scale * (with_text", "(scale + 0.5) * (with_text"))
    + _of("generators.restore", ('load_file(version.file(f"{weights}.', 'load_file(version.file(f"ema.')),
    "generator untrained": _of("model.sampling", ("noise[0] *= config.start_temperature", "noise[0] *= 1.0")),
    "scorer pixels": _of("decisions.perceptual", ("Resampling.LANCZOS", "Resampling.BOX"), ("/ n / 255", "/ n / 256")),
    "scorer scenes": _of("scenes.detect", ("overlap[best] * lead", "lead")),
    "scorer mask2former": _of(
        "scorers.mask2former",
        ("GRAY = 0x99", "GRAY = 0x00"),
        ("rows.max() + 1", "rows.max()"),
        ("sure >= self.config.floor", "sure >= 0.9"),
    ),
    "scorer vlm": _of("vlm.prompts", ('question.replace("{caption}", quoted(caption))', "question"))
    + _of("scorers.vlm", ("1 - yes if question", "yes if question"), ("round(one.yes, DIGITS)", "one.no"))
    + _of("vlm.reading", ("0 <= value <= best", "0 <= value <= best + 1")),
    "vlm transformers": _of(
        "vlm.qwen", ("log_softmax(dim=-1)", "sigmoid().log()"), ("logsumexp(dim=-1)", "amax(dim=-1)")
    ),
    "vlm server": _of(
        "vlm.server", ("sum(map(math.exp, found))", "max(map(math.exp, found))"), ("TOKENS = 4", "TOKENS = 5")
    )
    + _of("vlm.prompts", ('.replace("<", "\\\\u003c")', "")),
    "captioner given": _of("corpora.cleaning", ("tokens = count(fixed)", "tokens = 1 + count(fixed)")),
    "captioner vlm": _of("captioners.vlm", ("if attempt else ask", "if not attempt else ask"))
    + _of(
        "captioners.checking",
        ("found.tokens > most", "found.tokens > most + 50"),
        ("> sum(word in COMMON", "< sum(word in COMMON"),
    ),
    "stage recaption": _of("stages.recaption", ('(seed, "style", image_id)', '(seed, "kind", image_id)')),
    "vae patch_pca": _of("encoders.patch_pca", ("whitening / 2", "whitening"), ("* self.scale) @", ") @")),
    "vae diffusers": _of("encoders.diffusers_vae", (".mean.float() - self.shift", ".mean.float()")),
    "text words": _of("encoders.words", ("TINT = 0.5", "TINT = 0.4"), ("caption.casefold()", "caption")),
    "text t5": _of("encoders.t5", ("mask[row, : len(tokens)] = 1", "mask[row] = 1")),
    "decision near-duplicates": _of("decisions.near_duplicates", ('"an", "the", "some"', '"an", "some"')),
    "decision contamination": _of("decisions.contamination", ("share[k] >= least", "share[k] > least + 0.1")),
    "decision far apart": _of("decisions.far_apart", ("STEPS * np.log1p(texts", "STEPS * np.log1p(2 * texts")),
    "decision clusters": _of("decisions.caps", ("np.where(found < 0", "np.where(found <= 0")),
    "verdict scenes": _of("decisions.derive", ("box.score > sure", "box.score > sure + 0.1")),
    "verdict geneval": _of("evaluation.geneval", ("\nTHRESHOLD = 0.3", "\nTHRESHOLD = 0.8")),
    "verdict answers": _of("decisions.derive", ("settings.best * len(answers)", "10 * len(answers)")),
    "verdict probabilities": _of("decisions.derive", ("pc.subtract(1.0, denied)", "denied")),
    "verdict questions": _of("decisions.derive", ("if p < settings.sure", "if p < settings.sure + 0.2")),
    "stage source": _of("stages.source", ("PART_DIGITS | part)", "PART_DIGITS | part + 1)")),
    "stage select": _of(
        "decisions.selection",
        ("CHOSEN, np.arange(len(order)), distance", "CHOSEN, 1 + np.arange(len(order)), distance"),
    ),
    "stage generate": _of("stages.generate", ('"generate", prompt["id"]', '"draw", prompt["id"]')),
    "stage join": _of("stages.join", ('pa.array([""]', 'pa.array(["none"]')),
    "stage score": _of(
        "stages.score", ("answers[key] for key in image_keys(rows)", "answers[key] for key in image_keys(rows)[::-1]")
    ),
    "stage filter": _of("decisions.filtering", ("rule.bits > 0", "rule.bits == 0")),
    "stage fit_vae": _of("storage.weights", ('sorted(rows, key=lambda row: row["name"])', "rows[1:]")),
    "stage encode": _of("encoders.crop", ("Resampling.BICUBIC", "Resampling.NEAREST"))
    + _of("encoders.mirror", ("not TELLING.search(caption)", "True")),
    "stage texts": _of(
        "stages.texts", ("vectors[place] for place in finite]", "vectors[place] for place in finite[::-1]]")
    ),
    "stage encode_pairs": _of("stages.encode_pairs", ("for side in SIDES]", "for side in SIDES[::-1]]")),
    "stage pair": _of("decisions.pairing", ("lead >= rules.gap", "lead > rules.gap + 0.5")),
    "stage probe": _of("evaluation.damage", ("JPEG_QUALITY = 5", "JPEG_QUALITY = 60"), ("pixels[:, ::-1]", "pixels"))
    + _of("stages.probe", ("(*rows[place + 1 :], *rows[:place])", "rows[place + 1 :]")),
    "stage compare": _of("stages.compare", ("1 - probability(second)", "probability(second)")),
    "stage verdicts": _of("stages.verdicts", ("vote if side", "0.5 if side"), ('"tie": 0.5', '"tie": 0.4')),
    "stage audit": _of(
        "decisions.auditing", ("lead > 0 else", "lead > 0.4 else"), ("value >= bound", "value > bound + 1")
    )
    + _of("decisions.agreement", ("Z = 1.95", "Z = 1.65"), ("[0.025, 0.975]", "[0.05, 0.95]")),
    "scorer layout": _of("scorers.layout", ("0.587", "0.487")),
    "scorer embedding": _of("scorers.embedding", ("- self.mean) / self.std", "- self.mean)")),
    "stage evaluate": _of("evaluation.statistics", ("value + others * (most - value)", "value + others")),
    "stage pretrain": _of("model.masking", ("inside = below + uniform", "inside = above - uniform"))
    + _of("model.diffusion", ("error + variance_bound(as_noise", "error - variance_bound(as_noise")),
    "stage reference": _of("training.pair_schedule", ("(draw + 0.5)", "(draw + 0.4)")),
    "stage align": _of("training.preference", ("-0.5 * beta", "-0.4 * beta")),
}
# What no mutant reaches.
BEYOND: tuple[str, ...] = ()
# Those that are caught within a second each.
QUICK = (
    "corpus text", "corpus jsonl", "corpus table", "generator scenes", "generator sprites", "scorer pixels",
    "scorer scenes", "scorer vlm", "vlm server", "text words", "decision contamination", "verdict scenes",
    "verdict geneval", "verdict answers", "verdict probabilities", "verdict questions",
)  # fmt: skip
