"""A sentence across spaces, and what its vector gives away: with the bundled encoders and the small translator."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.data.corpora import load_labelled
from hf_vec2vec.encoders import recorded_encoder
from hf_vec2vec.evaluation.attributes import zero_shot
from hf_vec2vec.evaluation.inversion import WordDecoder

SOURCE, TARGET = "minilm", "wordllama"
OPENING = 25  # words of a news article that are kept: its headline and what follows
LONGEST = 500  # characters of a sentence
FOUND = 5  # neighbours shown
WORDS = 6  # guessed words shown


@dataclass(frozen=True)
class Neighbours:
    """Nearest texts of the store, the nearest first: `(text, cosine)`.

    Args:
        translated: asked with the vector of the one model, translated.
        own: asked with the vector of the store's own model.
    """

    translated: list[tuple[str, float]]
    own: list[tuple[str, float]]

    @property
    def shared(self) -> int:
        """Texts that both have."""
        return len({text for text, _ in self.translated} & {text for text, _ in self.own})


@dataclass(frozen=True)
class Leak:
    """What somebody guesses who holds one vector and knows neither its text nor its model.

    Args:
        seen: the first numbers of the vector, which is all that he has.
        topic: whose description lies nearest.
        words: that he thinks are in the text, the likeliest first.
        nearest: of texts of his own, the one that he thinks is most like it.
    """

    seen: list[float]
    topic: str
    words: list[str]
    nearest: str


class Search:
    """A store of news openings by WordLlama, asked by MiniLM.

    Args:
        translator: folder or Hub id, with the spaces `minilm` and `wordllama` and their encoders recorded.
        texts: of the store; default: the openings of BBC news articles.
        topics: a sentence for each topic; default: those of the articles.
    """

    def __init__(self, translator: str | Path, texts: list[str] | None = None, topics: dict[str, str] | None = None):
        self.model = Vec2VecModel.from_pretrained(translator).float()
        self.encoders = {space: recorded_encoder(self.model.config, space, device="cpu") for space in (SOURCE, TARGET)}
        if texts is None or topics is None:
            news = load_labelled("bbc")
            texts = texts or list(dict.fromkeys(" ".join(text.split()[:OPENING]) for text in news.texts))
            topics = topics or news.descriptions
        self.texts, self.topics = texts, list(topics)
        self.store = self._encoded(TARGET, texts)
        self.descriptions = self._encoded(TARGET, list(topics.values()))
        self.decoder = WordDecoder(self.store, texts)
        self.mean = self.store.mean(0)

    def neighbours(self, sentence: str) -> Neighbours:
        """The store's texts nearest to a sentence.

        Raises:
            ValueError: if it is empty or too long.
        """
        sentence = checked(sentence)
        asked = self.model.translate(self._encoded(SOURCE, [sentence]), source=SOURCE, target=TARGET, queries=True)
        return Neighbours(self._nearest(asked), self._nearest(self._encoded(TARGET, [sentence])))

    def leak(self, sentence: str) -> Leak:
        """What the sentence's MiniLM vector, and nothing else, gives away.

        Raises:
            ValueError: if it is empty or too long.
        """
        stolen = self._encoded(SOURCE, [checked(sentence)])
        read = self.model.translate(stolen, source=SOURCE, target=TARGET)
        topic = self.topics[int(zero_shot(read, self.descriptions, self.mean)[0])]
        likeliest = self.decoder.scores(read)[0].argsort(descending=True)[:WORDS]
        return Leak(stolen[0, :6].tolist(), topic, self.decoder.words[likeliest.numpy()].tolist(), self._nearest(read)[0][0])

    def _encoded(self, space: str, texts: list[str]) -> Tensor:
        return self.encoders[space].encode(texts, progress=False)

    def _nearest(self, asked: Tensor) -> list[tuple[str, float]]:
        """By centred cosine: all vectors of a model share much of their mean, which says nothing about a text."""
        cosines = (F.normalize(self.store - self.mean, dim=1) @ F.normalize(asked - self.mean, dim=1).T)[:, 0]
        best = cosines.topk(min(FOUND, len(self.texts)))
        return [(self.texts[i], value) for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def checked(sentence: str) -> str:
    """A sentence without space around it.

    Raises:
        ValueError: if it is empty or too long.
    """
    sentence = " ".join(sentence.split())
    if not sentence:
        raise ValueError("`sentence` is empty. Write one.")
    if len(sentence) > LONGEST:
        raise ValueError(f"`sentence` has {len(sentence):,} characters; {LONGEST} can be read here.")
    return sentence


__all__ = ["SOURCE", "TARGET", "Leak", "Neighbours", "Search", "checked"]
