"""From a student and an index to an encoder of queries: start, targets, training."""

import copy
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch import Tensor
from torch.nn import functional as F

from ..model.modeling_vec2vec import Vec2VecModel, check_embeddings
from ..sentence_transformers import Vec2VecModule
from .query_encoder import check_queries, query_encoder, student_vectors, take_off_the_middle
from .query_starts import Projection, fitted_projection, off_the_middle, random_projection, translator_projection
from .query_students import check_prompt
from .query_training import QueryTraining, train_query_encoder
from .store_targets import confident_targets

Start = Literal["translator", "ridge", "random"]
STARTS = ("translator", "ridge", "random")
UNIT = 0.01  # how far the norm of a space's vectors may be from 1 where all have norm 1, but were rounded
FEW_PAIRS = 3000  # below, training is warned of: with 1,000 it made answers worse, with 3,200 better; docs/query_encoder.md


@dataclass(frozen=True)
class Translation:
    """A translator, and which of its spaces are the student's and the index's."""

    model: Vec2VecModel
    student: str
    index: str


@dataclass(frozen=True)
class Pairs:
    """Texts, and the vectors `(p, d_index)` that the index's own encoder made of them."""

    texts: list[str]
    vectors: Tensor


def make_query_encoder(
    student: SentenceTransformer,
    index: Tensor,
    *,
    start: Start,
    translation: Translation | None = None,
    pairs: Pairs | None = None,
    queries: list[str] | None = None,
    training: QueryTraining | None = None,
    prompt: str = "",
    centre: bool = True,
    progress: bool = False,
) -> tuple[SentenceTransformer, dict[str, Any]]:
    """A student that asks an index of another encoder. The index is read only.

    | `start` | needs | the projection is |
    |---|---|---|
    | `translator` | `translation` | the translator's map; with pairs, a regression that is pulled to it |
    | `ridge` | `pairs` | a regression on the pairs |
    | `random` | `training` | random numbers |

    In the end the index's mean is taken off, unless `centre` is false. With `training`, student and projection are trained
    together before that: towards the pairs' vectors; without pairs towards the mean of the rows of the index that each of
    `queries` finds, where these agree (`confident_targets`).

    Args:
        student: made by `open_student`; training changes it, and so does a translator from vectors of norm 1, if it makes
            others: it gets a `Normalize`.
        index: `(m, d_index)`, vectors of the index, or a sample of them; their directions count.
        start: see the table.
        translation: from the student's space to the index's.
        pairs: known ones.
        queries: unlabelled ones, to train on where there are no pairs.
        training: how; default: none.
        prompt: put before each query.
        centre: answers are better, as hubs count for less; but cosines are no longer those of the index's own encoder.
        progress: show bars.

    Returns:
        The encoder, and facts of its making.

    Raises:
        TypeError, ValueError: for what `start` or `training` needs and is not there, dimensions that do not agree, and
            texts that cannot be queries.

    Warns:
        UserWarning: if it is trained on fewer than `FEW_PAIRS` pairs.
    """
    rows = F.normalize(check_embeddings(index, "index").float(), dim=1)  # an index that is searched by cosine has no lengths
    _check(student, rows, start, translation, pairs, queries, training)
    check_prompt(student, prompt)
    if translation is not None:
        scale_as_learned(student, translation)
    for argument, texts in (("pairs", pairs.texts if pairs else None), ("queries", queries)):
        if texts is not None:
            check_queries(student, texts, argument, prompt)
    seed = training.seed if training else 0
    projection = _start(student, rows, start, translation, pairs, prompt, seed, progress)
    linear = isinstance(projection, Projection)
    settled = off_the_middle(projection, rows) if centre and isinstance(projection, Projection) else projection
    encoder = query_encoder(student, settled if training is None else projection, prompt=prompt)
    facts: dict[str, Any] = {"start": start, "pairs": len(pairs.texts) if pairs else 0, "prompt": prompt}
    facts |= {"index_rows": len(rows), "linear": linear, "centred": linear and centre}
    if training is None:
        return encoder, facts
    if pairs:
        if len(pairs.texts) < FEW_PAIRS:
            warnings.warn(
                f"`pairs` are {len(pairs.texts):,}, and training on so few has made answers worse than no training. Compare "
                "with an encoder that is not trained, or give some thousands.",
                stacklevel=2,
            )
        texts, targets = pairs.texts, pairs.vectors.float()
    else:
        assert queries is not None  # checked
        found = query_encoder(student, projection).encode(
            queries, prompt=prompt, convert_to_tensor=True, show_progress_bar=progress
        )
        targets, chosen = confident_targets(found.float().cpu(), rows)
        texts = [queries[i] for i in chosen.tolist()]
    train_query_encoder(encoder, texts, targets, rows, training, prompt=prompt, progress=progress)
    if linear and centre:
        take_off_the_middle(encoder, rows, texts, prompt=prompt)
    return encoder, facts | {"training": asdict(training), "training_texts": len(texts)}


def _check(
    student: SentenceTransformer,
    index: Tensor,
    start: Start,
    translation: Translation | None,
    pairs: Pairs | None,
    queries: list[str] | None,
    training: QueryTraining | None,
) -> None:
    if start not in STARTS:
        raise ValueError(f"`start` must be one of {', '.join(STARTS)}, got {start!r}.")
    needed = {"translator": (translation, "translator"), "ridge": (pairs, "pairs"), "random": (training, "train")}
    given, argument = needed[start]
    if given is None:
        raise ValueError(f"`start` is {start!r}, which needs `{argument}`. Give it, or choose another start.")
    if training is not None and pairs is None and queries is None:
        raise ValueError("`train` needs texts: give `pairs`, or `queries` to guess targets for.")
    if training is not None and pairs is None and start == "random":
        raise ValueError("`start` is 'random', from which no target can be guessed: give `pairs`, or a translator.")
    dim = index.shape[1]
    if pairs is not None:
        check_embeddings(pairs.vectors, "pairs", dim)
        if len(pairs.texts) != len(pairs.vectors):
            raise ValueError(f"`pairs` have {len(pairs.texts)} texts and {len(pairs.vectors)} vectors; each text has one.")
    if translation is None:
        return
    sides = (("student", translation.student, student.get_embedding_dimension()), ("index", translation.index, dim))
    for argument, space, there in sides:
        known = (translation.model.config.embedding_dims or {}).get(space)
        if known is None:
            raise ValueError(f"`{argument}_space` must be one of {translation.model.config.spaces}, got {space!r}.")
        if known != there:
            raise ValueError(
                f"`{argument}` makes vectors of dimension {there}, but the translator's space {space!r} has {known}: no "
                "encoder of this chain makes them. Name another space, or give another translator."
            )


def scale_as_learned(student: SentenceTransformer, translation: Translation) -> None:
    """Let a student end in a `Normalize`, in place, if its translator learned from vectors of norm 1 and it makes others."""
    unit = abs(translation.model.normalizer(translation.student).usual_norm() - 1) < UNIT
    if unit and not isinstance(student[-1], Normalize):
        student.append(Normalize())


def _start(
    student: SentenceTransformer,
    index: Tensor,
    start: Start,
    translation: Translation | None,
    pairs: Pairs | None,
    prompt: str,
    seed: int,
    progress: bool,
) -> Projection | Vec2VecModule:
    if start == "random":
        width = student.get_embedding_dimension()
        assert width is not None
        return random_projection(width, index.shape[1], seed)
    prior = None
    if start == "translator":
        assert translation is not None  # checked
        prior = translator_projection(translation.model, translation.student, translation.index)
        if prior is None:
            own = copy.deepcopy(translation.model)  # it may be trained with the student
            return Vec2VecModule(own, translation.student, translation.index)
    if pairs is None:
        assert prior is not None  # a ridge has pairs
        return prior
    rows = student_vectors(student, pairs.texts, prompt=prompt, progress=progress)
    return fitted_projection(rows, F.normalize(pairs.vectors.float(), dim=1), index, prior)


def averaged(several: list[Pairs]) -> Pairs:
    """One target for each text, from several encoders' vectors of it: the mean of their directions, `(p, d_index)`.

    Raises:
        ValueError: if the texts are not the same, in the same order.
    """
    first = several[0]
    if len(several) == 1:
        return first
    for number, other in enumerate(several[1:], 2):
        if other.texts != first.texts:
            raise ValueError(
                f"`pairs` are {len(several)} files, of which the first has {len(first.texts)} texts and file {number} has "
                f"{len(other.texts)}, not the same ones in the same order. Embed one file of texts by each encoder."
            )
    return Pairs(first.texts, torch.stack([F.normalize(each.vectors.float(), dim=1) for each in several]).mean(0))


def drawn(pairs: Pairs, count: int | None, seed: int) -> Pairs:
    """So many of the pairs, at random; all where none is said.

    Raises:
        ValueError: for more than there are.
    """
    if count is None:
        return pairs
    if not 0 < count <= len(pairs.texts):
        raise ValueError(f"`max_pairs` must be at least 1 and at most {len(pairs.texts)}, the pairs there are, got {count}.")
    order = torch.randperm(len(pairs.texts), generator=torch.Generator().manual_seed(seed))[:count]
    return Pairs([pairs.texts[i] for i in order.tolist()], pairs.vectors[order])


__all__ = ["Pairs", "Start", "Translation", "averaged", "drawn", "make_query_encoder"]
