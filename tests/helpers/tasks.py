"""Invented rows in the exact schema of GLUE, SQuAD and CommonsenseQA, and tokenizers that read them."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SHAPE = {"vocab_size": 500, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def glue(columns: tuple[str, ...], rows: list[tuple]) -> list[dict]:
    return [dict(zip((*columns, "label"), row, strict=True)) | {"idx": i} for i, row in enumerate(rows)]


def squad(*rows: tuple[str, str, list[str]]) -> list[dict]:
    found = []
    for context, question, answers in rows:
        places = {"text": answers, "answer_start": [context.index(answer) for answer in answers]}
        found.append({"id": question.strip(), "title": "Town", "context": context, "question": question, "answers": places})
    return found


def choices(*rows: tuple[str, list[str], str]) -> list[dict]:
    return [
        {
            "id": f"c{i}",
            "question": question,
            "question_concept": "thing",
            "choices": {"label": list("ABCDE"), "text": texts},
            "answerKey": answer,
        }
        for i, (question, texts, answer) in enumerate(rows)
    ]


MILL = "Marla Venn opened the mill in 1912. It ground rye for the whole valley until a flood broke its wheel."
LAKE = "The lake froze early that year. Children crossed it on foot, and the baker sold warm rolls on the ice."
PAIRS = [("a cat sat", "a cat was sitting", 1), ("it rains", "the sun is out", 0), ("he ran home", "he went home", 1)]
SQUAD = squad(
    (MILL, "Who opened the mill?", ["Marla Venn", "Venn"]),
    (MILL, " What broke the wheel?", ["a flood"]),
    (LAKE, "Where did the baker sell rolls?", ["on the ice", "the ice"]),
)
VALIDATION: dict[str, list[dict]] = {
    "cola": glue(("sentence",), [("she sings", 1), ("sings she the", 0), ("birds fly", 1), ("fly of birds is", 0)]),
    "sst2": glue(("sentence",), [("a joy", 1), ("dull and long", 0), ("a mess", 0), ("warm and funny", 1), ("great", 1)]),
    "mrpc": glue(("sentence1", "sentence2"), [*PAIRS, ("we won", "we were the winners", 1)]),
    "stsb": glue(("sentence1", "sentence2"), [(a, b, score) for (a, b, _), score in zip(PAIRS, (4.5, 0.0, 3.0))]),
    "qqp": glue(
        ("question1", "question2"), [("how old is he", "what is his age", 1), ("who", "why", 0), ("is it", "no", 0)]
    ),
    "mnli": glue(
        ("premise", "hypothesis"), [("a man runs", "a man moves", 0), ("he ate", "he ate rye", 1), ("up", "down", 2)]
    ),
    "qnli": glue(("question", "sentence"), [("who came", "Ann came", 0), ("when", "Ann came", 1), ("why", "it was hot", 1)]),
    "rte": glue(("sentence1", "sentence2"), [("Ann owns a mill", "a mill is owned", 0), ("Ann left", "Bob left", 1)]),
    "wnli": glue(
        ("sentence1", "sentence2"), [("the cup fell off it as it was full", "the cup was full", 1), ("so", "no", 0)]
    ),
    "squad": SQUAD,
    "squad_v2": [*SQUAD, *squad((LAKE, "Who owned the lake?", []))],
    "commonsense_qa": choices(
        ("Where do you keep milk cold?", ["oven", "fridge", "shoe box", "garden", "hat"], "B"),
        ("What do you wear on a foot?", ["a warm sock", "ring", "belt", "scarf", "glove"], "A"),
        ("What falls from a cloud?", ["sand", "a chair", "bread", "rain", "ink"], "D"),
    ),
}
MISMATCHED = glue(("premise", "hypothesis"), [("she sings", "she is mute", 2), ("he runs fast", "he runs", 0)])


def write_rows(rows: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_task(name: str, folder: Path) -> Path:
    """A folder with a file a split; training and validation rows are the same."""
    splits = {"train": VALIDATION[name], "validation": VALIDATION[name]}
    if name == "mnli":
        splits = {"train": VALIDATION[name], "validation_matched": VALIDATION[name], "validation_mismatched": MISMATCHED}
    for split, rows in splits.items():
        write_rows(rows, folder / f"{split}.jsonl")
    return folder


def _texts(value) -> list[str]:
    if isinstance(value, dict | list):
        return [text for part in (value.values() if isinstance(value, dict) else value) for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _byte_pairs(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(VALIDATION), trainer)
    return tokenizer


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """With cls, separator and padding, as BERT's."""
    tokenizer = _byte_pairs(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """With an end token and nothing else, as GPT-2's."""
    return PreTrainedTokenizerFast(tokenizer_object=_byte_pairs(["<end>"]), eos_token="<end>")
