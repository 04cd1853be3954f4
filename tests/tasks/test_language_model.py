from dataclasses import replace

import pytest
import torch
from tokenizers import processors
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    Trainer,
    TrainingArguments,
)
from transformers.modeling_outputs import CausalLMOutput

from helpers.tasks import SHAPE, VALIDATION, decoder_tokenizer, encoder_tokenizer, write_task
from hf_vec2vec.tasks import TaskCollator, evaluate_task, load_task, set_padding

TOKENIZER = decoder_tokenizer()


@pytest.fixture
def load(tmp_path):
    return lambda name: load_task(name, write_task(name, tmp_path / name), language_model=True)


@pytest.fixture(params=[LlamaForCausalLM, GPT2LMHeadModel])
def model(request):
    """Relative positions and absolute ones. Weights large enough for its guesses to differ."""
    torch.manual_seed(0)
    config = LlamaConfig if request.param is LlamaForCausalLM else GPT2Config
    return request.param(config(**SHAPE, initializer_range=0.5)).eval()


class Tokens(nn.Module):
    """Expects any token equally, or, behind the beginning of a text that it knows, the next token of that text."""

    device = torch.device("cpu")
    generation_config = GenerationConfig()

    def __init__(self, known: list[list[int]]):
        super().__init__()
        self.known, self.config = known, LlamaConfig()

    def next_tokens(self, ids: list[int]) -> torch.Tensor:
        logits = torch.zeros(len(TOKENIZER))
        for text in self.known:
            if len(text) > len(ids) and text[: len(ids)] == ids:
                logits[text[len(ids)]] = 10
        return logits

    def forward(self, input_ids, attention_mask):
        return CausalLMOutput(
            logits=torch.stack(
                [torch.stack([self.next_tokens(row[: i + 1]) for i in range(len(row))]) for row in input_ids.tolist()]
            )
        )

    def can_generate(self):
        return True

    def generate(self, input_ids, attention_mask, max_new_tokens, eos_token_id, pad_token_id, stopping_criteria, **others):
        assert others == {"do_sample": False, "num_beams": 1}
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
        done = torch.zeros(len(rows), dtype=torch.bool)
        for _ in range(max_new_tokens):
            new = torch.tensor([int(self.next_tokens(row).argmax()) for row in rows]).masked_fill(done, pad_token_id)
            rows = [[*row, int(token)] for row, token in zip(rows, new, strict=True)]
            input_ids = torch.cat([input_ids, new[:, None]], dim=1)
            done |= (new == eos_token_id) | stopping_criteria(input_ids, None)
        return input_ids


def test_constant_and_oracle_of_choices_score_their_known_values(load):
    """To a model that expects anything, all choices are alike, and the first one is taken: right once in three times."""
    task = load("commonsense_qa")
    found = evaluate_task(Tokens([]), decoder_tokenizer(), task, batch_size=4, progress=False)
    assert found == pytest.approx({"accuracy": 1 / 3})
    oracle = Tokens(task.prepare(TOKENIZER, "validation")["input_ids"][:])
    assert evaluate_task(oracle, decoder_tokenizer(), task, batch_size=4, progress=False) == {"accuracy": 1}


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
def test_constant_and_oracle_that_write_score_their_known_values(name, load):
    task = load(name)
    oracle = Tokens(task.prepare(TOKENIZER, "validation")["input_ids"][:])
    found = evaluate_task(oracle, decoder_tokenizer(), task, batch_size=2, progress=False)
    prompts = [
        [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
        for row in task.prepare(TOKENIZER, "validation")
    ]
    says = TOKENIZER(" unanswerable\nand more")["input_ids"]
    constant = evaluate_task(Tokens([p + says for p in prompts]), decoder_tokenizer(), task, batch_size=2, progress=False)
    if name == "squad":
        assert (found, constant) == ({"exact_match": 100, "f1": 100}, {"exact_match": 0, "f1": 0})
    else:
        figures = ("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1")
        assert [found[figure] for figure in figures] == [100] * 6
        assert [constant[figure] for figure in figures] == [25, 25, 0, 0, 100, 100]
        assert "best_exact" not in found  # a written answer has no score to set a threshold on


@pytest.mark.parametrize("end", ["<end>", "\n"])
def test_an_answer_ends_with_its_line_or_the_end_token(end, load):
    task = load("squad")
    right = [
        row[:-1] + TOKENIZER(f"{end} and more")["input_ids"] for row in task.prepare(TOKENIZER, "validation")["input_ids"]
    ]
    found = evaluate_task(Tokens(right), decoder_tokenizer(), task, batch_size=2, progress=False)
    assert found == {"exact_match": 100, "f1": 100}


def test_likelihoods_agree_with_one_token_after_the_other(load, model):
    task, tokenizer = load("commonsense_qa"), decoder_tokenizer()
    set_padding(model, tokenizer)
    with torch.inference_mode():
        found = task.scores(model, tokenizer, "validation", batch_size=4, progress=False)
        for row, scores in zip(VALIDATION["commonsense_qa"], found, strict=True):
            prompt = tokenizer(f"Question: {row['question']}\nAnswer:")["input_ids"]
            for choice, score in zip(row["choices"]["text"], scores, strict=True):
                written, terms = list(prompt), []
                for token in tokenizer(f" {choice}")["input_ids"]:
                    logits = model(torch.tensor([written])).logits[0, -1]
                    terms.append(torch.log_softmax(logits, dim=0)[token].item())
                    written.append(token)
                assert score == pytest.approx(sum(terms) / len(terms), abs=1e-4)


def test_padding_and_batches_change_no_score_and_no_answer(load, model):
    task, tokenizer = load("commonsense_qa"), decoder_tokenizer()
    set_padding(model, tokenizer)
    with torch.inference_mode():
        together, alone = (task.scores(model, tokenizer, "validation", batch_size=size, progress=False) for size in (15, 1))
        for a, b in zip(together, alone, strict=True):
            assert a == pytest.approx(b, abs=1e-5)
        task = load("squad_v2")
        together, alone = (task.answers(model, tokenizer, "validation", batch_size=size, progress=False) for size in (4, 1))
    assert together == alone
    assert len(set(alone.values())) > 1


HABITS = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "num_beams": 3, "min_new_tokens": 9, "suppress_tokens": [5]}


@pytest.mark.parametrize("habits", [{"repetition_penalty": 1.3}, HABITS], ids=["penalty", "many"])
def test_the_likeliest_tokens_are_written_whatever_the_folder_asks_for(load, model, tmp_path, habits):
    """Answers are those of a loop that knows nothing but logits; the model keeps its settings."""
    task, tokenizer = load("squad"), decoder_tokenizer()
    set_padding(model, tokenizer)
    model.generation_config.update(**habits)
    model.save_pretrained(tmp_path / "model")
    model = task.load_model(str(tmp_path / "model")).eval()
    expected = {}
    for row in task.rows("validation"):
        passage = f"Background: {row['context']}\n\nQuestion: {row['question'].strip()}\n\nAnswer:"
        written, said = tokenizer(passage)["input_ids"], []
        while len(said) < 32 and tokenizer.eos_token_id not in said and "\n" not in tokenizer.decode(said):
            with torch.inference_mode():
                said.append(int(model(torch.tensor([written + said])).logits[0, -1].argmax()))
        expected[row["id"]] = tokenizer.decode(said, skip_special_tokens=True).split("\n")[0].strip()
    with torch.inference_mode():
        assert task.answers(model, tokenizer, "validation", batch_size=2, progress=False) == expected
    assert model.generation_config.repetition_penalty == 1.3


def test_a_model_learns_to_write_the_answers(load, tmp_path):
    """Trained on what `prepare` gives, it scores what `evaluate_task` should give: prompt and features fit together."""
    torch.manual_seed(0)
    task, tokenizer = load("squad_v2"), decoder_tokenizer()
    wide = SHAPE | {"hidden_size": 64, "intermediate_size": 64}
    model = LlamaForCausalLM(LlamaConfig(**wide, initializer_range=0.1, eos_token_id=7))  # not the tokenizer's end token
    set_padding(model, tokenizer)
    assert evaluate_task(model, tokenizer, task, progress=False)["exact"] == 0
    arguments = TrainingArguments(
        str(tmp_path), max_steps=60, learning_rate=5e-3, use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    features = task.prepare(tokenizer, "train")
    Trainer(model, arguments, data_collator=TaskCollator(tokenizer), train_dataset=features).train()
    found = evaluate_task(model, tokenizer, task, progress=False)
    assert (found["exact"], found["HasAns_exact"], found["NoAns_exact"]) == (100, 100, 100)


def test_only_the_answer_is_trained_on(load):
    row = load("squad").prepare(TOKENIZER, "validation")[0]
    answer = [label for label in row["labels"] if label != -100]
    assert TOKENIZER.decode(answer) == " Marla Venn<end>"
    assert row["input_ids"][-len(answer) :] == answer
    text = TOKENIZER.decode(row["input_ids"])
    assert text.startswith("Background: Marla Venn opened")
    assert text.endswith("wheel.\n\nQuestion: Who opened the mill?\n\nAnswer: Marla Venn<end>")
    row = load("squad_v2").prepare(TOKENIZER, "validation")[3]
    assert TOKENIZER.decode([label for label in row["labels"] if label != -100]) == " unanswerable<end>"
    row = load("commonsense_qa").prepare(TOKENIZER, "validation")[0]
    assert TOKENIZER.decode(row["input_ids"]) == "Question: Where do you keep milk cold?\nAnswer: fridge"
    assert TOKENIZER.decode([label for label in row["labels"] if label != -100]) == " fridge"


def test_an_end_token_that_the_tokenizer_writes_ends_no_prompt(load, model):
    plain, ending = decoder_tokenizer(), decoder_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", ending.eos_token_id)]
    )
    assert ending("a")["input_ids"] == [*plain("a")["input_ids"], ending.eos_token_id]
    task = load("squad")
    set_padding(model, plain)
    set_padding(model, ending)
    for made in (
        lambda tokenizer: task.prepare(tokenizer, "train")["input_ids"][:],
        lambda tokenizer: task.answers(model.eval(), tokenizer, "validation", progress=False),
    ):
        assert made(ending) == made(plain)


def test_long_passages_lose_their_end_and_nothing_else(load):
    task = load("squad")
    whole, cut = (task.prepare(TOKENIZER, "validation", length)[0]["input_ids"] for length in (1024, 40))
    assert (len(cut), len(whole) > 40) == (40, True)
    text = TOKENIZER.decode(cut)
    assert text.startswith("Background: Marla Venn opened the mill")
    assert text.endswith("\n\nQuestion: Who opened the mill?\n\nAnswer: Marla Venn<end>")
    assert "wheel" not in text
    with pytest.raises(ValueError, match="`max_length` leaves no room for the passage of 'Who opened the mill"):
        task.prepare(TOKENIZER, "validation", 20)


def test_choices_may_differ_in_number(load):
    task = load("commonsense_qa")
    rows = task.splits["validation"].to_list()
    rows[0]["choices"] = {"label": ["A", "B"], "text": ["oven", "fridge"]}
    task = replace(task, splits={"validation": task.splits["validation"].from_list(rows)})
    scores = task.scores(Tokens([]), TOKENIZER, "validation", progress=False)
    assert [len(row) for row in scores] == [2, 5, 5]


def test_models_and_tokenizers_that_cannot_are_refused(load, tmp_path):
    classifier = BertForSequenceClassification(BertConfig(**SHAPE))
    with pytest.raises(ValueError, match="`model` is a BertForSequenceClassification, which predicts no tokens"):
        evaluate_task(classifier, encoder_tokenizer(), load("commonsense_qa"), progress=False)
    with pytest.raises(ValueError, match="`model` is a BertForSequenceClassification, which writes no text"):
        evaluate_task(classifier, encoder_tokenizer(), load("squad"), progress=False)
    LlamaModel(LlamaConfig(**SHAPE)).save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match="writes no text: its folder lacks 'lm_head.weight'"):
        load("squad").load_model(str(tmp_path / "headless"))
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(tmp_path / "whole")
    assert isinstance(load("squad").load_model(str(tmp_path / "whole")), LlamaForCausalLM)


def test_a_choice_that_leaves_no_place_for_its_question_is_named(model, load):
    with pytest.raises(ValueError, match="`max_length` 1 leaves no place for a question"):
        evaluate_task(model, TOKENIZER, load("commonsense_qa"), max_length=1, progress=False)


def test_rows_longer_than_a_model_has_places_are_told(load):
    short = GPT2LMHeadModel(GPT2Config(**SHAPE | {"n_positions": 4})).eval()
    with pytest.raises(ValueError, match="`model` reads 4 tokens at most"):
        evaluate_task(short, TOKENIZER, load("commonsense_qa"), progress=False)


@pytest.mark.parametrize("kind", [LlamaForCausalLM, GPT2LMHeadModel])
def test_prompts_leave_places_for_the_answer(load, kind):
    """GPT-2 ended with an IndexError behind its last place, Llama wrote on from places that it had never seen."""
    few = {"n_positions": 80} if kind is GPT2LMHeadModel else {"max_position_embeddings": 80}
    short = kind(kind.config_class(**SHAPE | few)).eval()
    with pytest.raises(ValueError, match=r"reads 80 tokens at most, .* has \d\d and its answer may have 32"):
        evaluate_task(short, TOKENIZER, load("squad"), progress=False)
    assert evaluate_task(short, TOKENIZER, load("squad"), max_length=80, progress=False)["exact_match"] == 0
