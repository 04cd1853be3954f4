"""Tiny encoders and their tokenizer, saved as folders."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TEXTS = ["a dog", "the small dog sat on a mat", "dog", "cat mat cat mat the cat sat"]


WORDS = ["[PAD]", "[UNK]", "[BOS]", "a", "the", "small", "dog", "cat", "sat", "on", "mat"]


def tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def save_model(model, folder) -> str:
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


SHAPE = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
