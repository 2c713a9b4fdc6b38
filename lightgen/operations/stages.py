"""How a step of a recipe is made: the one place where settings meet the functions of stages."""

from lightgen.operations.step import Step
from lightgen.recipe import Audit, Use
from lightgen.stages.adopt import AdoptConfig, adopt
from lightgen.stages.align import AlignConfig, align
from lightgen.stages.audit import AuditConfig, audit
from lightgen.stages.compare import CompareConfig, compare
from lightgen.stages.encode import EncodeConfig, encode
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.evaluate import BEST_OF, FEATURES, EvaluateConfig, evaluate
from lightgen.stages.fetch import FetchConfig, fetch
from lightgen.stages.filter import FilterConfig, filter_images
from lightgen.stages.fit_vae import FitVaeConfig, fit_vae
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.join import JoinConfig, join
from lightgen.stages.links import LinksConfig, links
from lightgen.stages.pair import PairConfig, pair
from lightgen.stages.pictures import PicturesConfig, pictures
from lightgen.stages.pretrain import PretrainConfig, pretrain
from lightgen.stages.probe import ProbeConfig, probe
from lightgen.stages.recaption import RecaptionConfig, recaption
from lightgen.stages.reference import ReferenceConfig, reference
from lightgen.stages.score import ScoreConfig, score
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.stages.texts import TextsConfig, texts
from lightgen.stages.verdicts import VerdictsConfig, verdicts
from lightgen.work import Context
from schemas.ref import ArtifactRef


def make(step: Step, refs: list[ArtifactRef], context: Context) -> ArtifactRef:
    """The version of a step; `refs` are those of its inputs, in their order. Raises LightgenError."""
    config, labels = step.config, step.labels[1:]
    match config:
        case Use():
            return context.store.open(config.use).ref
        case SourceConfig():
            return source(config, context)
        case PicturesConfig():
            return pictures(config, context)
        case AdoptConfig():
            return adopt(config, context)[1]
        case SelectConfig():
            return select(refs[0], config, context)
        case GenerateConfig():
            return generate(refs[0], config, context, *refs[1:])
        case JoinConfig():
            return join(refs, config, context)
        case ScoreConfig():
            return score(refs[0], config, context, *refs[1:])
        case FilterConfig():
            return filter_images(refs[0], dict(zip(labels, refs[1:], strict=True)), config, context)
        case FitVaeConfig():
            return fit_vae(refs[0], refs[1], config, context)
        case EncodeConfig():
            return encode(refs[0], refs[1], refs[2], config, context)
        case TextsConfig():
            return texts(refs[0], config, context)
        case PretrainConfig():
            return pretrain(refs[0], refs[1], config, context, *refs[2:])
        case LinksConfig():
            return links(config, context)
        case FetchConfig():
            return fetch(refs[0], config, context)
        case RecaptionConfig():
            return recaption(refs[0], refs[1], config, context)
        case PairConfig():
            return pair(refs[: len(refs) // 2], refs[len(refs) // 2 :], config, context)
        case ProbeConfig():
            return probe(refs[0], refs[1:], config, context)
        case CompareConfig():
            return compare(refs[0], refs[1:], config, context)
        case VerdictsConfig():
            return verdicts(refs[0], config, context)
        case Audit():
            return _vouched_for(dict(zip(step.labels, refs, strict=True)), config, context)
        case EncodePairsConfig():
            return encode_pairs(refs[0], refs[1], refs[2:], config, context)
        case ReferenceConfig():
            return reference(refs[0], refs[1], refs[2], config, context)
        case AlignConfig():
            return align(refs[0], refs[1], refs[2], config, context, *refs[3:])
        case EvaluateConfig():
            given = dict(zip(labels, refs[1:], strict=True))
            vectors, best = (_labelled(given, prefix) for prefix in (FEATURES, BEST_OF))
            return evaluate(refs[0], given, config, context, vectors, best)
        case _:
            raise AssertionError(f"no stage takes {type(config).__name__}")


def _labelled(given: dict[str, ArtifactRef], prefix: str) -> dict[str, ArtifactRef]:
    """Takes what is labelled with `prefix` out of `given`, by the rest of its label."""
    names = [name for name in given if name.startswith(prefix)]
    return {name.removeprefix(prefix): given.pop(name) for name in names}


def _vouched_for(asked: dict[str, ArtifactRef], config: Audit, context: Context) -> ArtifactRef:
    """The audit of pairs, which are published for the role of the audit once it lets them pass. Raises AuditRefused."""
    bounds = AuditConfig.model_validate({name: getattr(config, name) for name in AuditConfig.model_fields})
    done = audit(asked, bounds, context)
    if not context.find_only:
        context.store.publish(asked["pairs"], context.role)
    return done
