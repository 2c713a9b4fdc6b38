"""Pairs whose truth is known, with the scores of judges that are right as often as a test says; imported by path."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import pyarrow as pa

from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import captions, parse
from lightgen.scorers.scenes import ScenesDetector
from lightgen.seeds import content_id
from lightgen.storage.pixels import Pixels, encode_image
from lightgen.storage.store import Store
from schemas import pairs as pairs_schema
from schemas import scores as scores_schema
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import _shard, image, images, scores, seal

MATCH = pa.schema([pa.field("match_asked", pa.float32()), pa.field("match_denied", pa.float32())])
HUMAN = pa.schema([
    pa.field("pair_id", pa.string()), pa.field("side", pa.string()), pa.field("preferred", pa.float32()),
    pa.field("votes", pa.int32()), pa.field("raters", pa.string()),
])  # fmt: skip
ORDERS = pa.schema([pa.field("winner_first", pa.float32()), pa.field("winner_second", pa.float32())])


@dataclass(frozen=True)
class World:
    """Pairs of scenes: one picture shows the caption, the other shows that of the next pair."""

    store: Store
    pairs: ArtifactRef
    drawn: ArtifactRef
    rows: list[dict]
    right: frozenset[str]
    """Images that show their caption."""

    def judged(self, answers: Mapping[str, float], denied: Mapping[str, float] | None = None) -> ArtifactRef:
        """SCORES of a judge that says yes with these probabilities."""
        against = denied or {id: 1 - yes for id, yes in answers.items()}
        said = {id: {"match_asked": yes, "match_denied": against[id]} for id, yes in answers.items()}
        return scores(self.store, self.drawn, said, MATCH)

    def truth(self) -> dict[str, float]:
        """What a judge says who sees it all."""
        ids = [row[f"{side}_id"] for row in self.rows for side in ("winner", "loser")]
        return {id: 0.9 if id in self.right else 0.1 for id in ids}

    def flipped(self, often: float, seed: int) -> dict[str, float]:
        """The same with a coin for each image: so often it says the opposite."""
        random = Random(f"flip {seed}")
        return {id: 1 - yes if random.random() < often else yes for id, yes in self.truth().items()}

    def labels(self, votes: Mapping[str, Mapping[str, float]]) -> ArtifactRef:
        """SCORES of people: by pair and rater 1 for the winner, 0 for the loser, 0.5 for neither."""
        rows = []
        for row in self.rows:
            said = votes.get(row["id"])
            for side in ("winner", "loser") if said else ():
                given = {name: vote if side == "winner" else 1 - vote for name, vote in (said or {}).items()}
                facts = {"pair_id": row["id"], "side": side, "preferred": sum(given.values()) / len(given)}
                rows.append({
                    "id": content_id(row["id"], side), "prompt_id": row["prompt_id"], "caption": row["caption"],
                    "index": 0, "image_sha256": "", "unscored": "", "unscored_detail": "", "votes": len(given),
                    "raters": json.dumps(given), **facts,
                })  # fmt: skip
        return seal(self.store, "scores", [_shard(rows, scores_schema.schema(HUMAN))], [self.pairs])

    def true_labels(self) -> ArtifactRef:
        """Those of one person who is always right."""
        return self.labels({row["id"]: {"ada": float(row["winner_id"] in self.right)} for row in self.rows})

    def compared(self, both: Sequence[tuple[float, float]]) -> ArtifactRef:
        """SCORES of stage compare."""
        rows = [
            {"id": row["id"], "prompt_id": row["prompt_id"], "caption": row["caption"], "index": 0, "image_sha256": "",
             "unscored": "", "unscored_detail": "", "winner_first": first, "winner_second": second}
            for row, (first, second) in zip(self.rows, both, strict=True)
        ]  # fmt: skip
        return seal(self.store, "scores", [_shard(rows, scores_schema.schema(ORDERS))], [self.pairs])


def scene(caption: str, seed: int, side_px: int = 32) -> Pixels:
    """A picture of a caption."""
    found = parse(caption)
    assert found is not None
    return draw(found, side_px, seed)


def world(store: Store, count: int, seed: int = 0, task: str = "position", pixels: bool = True) -> World:
    """`count` pairs; which side is called the winner is a coin, so that nothing but judges tells."""
    random, texts = Random(f"world {seed}"), list(islice(captions("preference", task), count))
    rows, drawn, right = [], [], set()
    for number, caption in enumerate(texts):
        facts = {"caption": caption, "prompt_id": content_id("prompt", seed, number)}
        files = [f"{seed} {number} {side}".encode() for side in "ab"]
        if pixels:
            files = [encode_image(scene(text, number), "png") for text in (caption, texts[(number + 1) % count])]
        good, bad = (image(f"{seed} {side} {number}", file, **facts) for side, file in zip("ab", files, strict=True))
        winner, loser = (good, bad) if random.random() < 0.5 else (bad, good)
        right.add(good[0]["id"])
        drawn += [good, bad]
        rows.append({
            "id": content_id("pair", seed, number), **facts, "winner_id": winner[0]["id"], "loser_id": loser[0]["id"],
            "winner_generator": "teacher", "loser_generator": "student", "winner_score": 0.75, "loser_score": 0.25,
            "margin": 0.5, "weight": 1.0, "host": "", "source": "",
        })  # fmt: skip
    kept = images(store, drawn)
    pairs = seal(store, "pairs", [_shard(rows, pairs_schema.SCHEMA)], [kept], stage="pair")
    return World(store, pairs, kept, rows, frozenset(right))


def seen(pixels: Sequence[Pixels]) -> list[str]:
    """What the detector of the scene world finds."""
    return ScenesDetector().score(pixels, [""] * len(pixels))["detections"].to_pylist()
