import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hf_vec2vec import TextEncoder
from hf_vec2vec.data.devices import chosen_device
from hf_vec2vec.encoders import memory
from hf_vec2vec.encoders.memory import available_memory, in_batches


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: no memory")]
)
@pytest.mark.parametrize("room", [1, 2, 3, 7])
def test_a_batch_that_does_not_fit_is_halved(error, room, monkeypatch):
    said, tried = [], []
    monkeypatch.setattr(memory.logger, "warning", said.append)

    def run(batch):
        tried.append(len(batch))
        if len(batch) > room:
            raise error
        return [2 * i for i in batch]

    found = [row for _, rows in in_batches(run, list(range(20)), 8) for row in rows]
    assert found == [2 * i for i in range(20)]
    assert len(said) == sum(size > room for size in tried)
    assert f"going on with `batch_size` {max(size for size in tried if size <= room)}" in said[-1]


def test_what_is_no_lack_of_memory_or_cannot_be_halved_is_raised():
    def fail(error):
        def run(batch):
            raise error

        return run

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_batches(fail(RuntimeError("shapes")), [1, 2], 2))
    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches(fail(torch.OutOfMemoryError("one")), [1, 2], 2))
    for size in (0, -4):
        with pytest.raises(ValueError, match=f"`batch_size` must be at least 1, got {size}"):
            list(in_batches(len, [1], size))


def test_vectors_are_the_same_in_halved_batches(bert, monkeypatch):
    encoder, texts = TextEncoder(bert), ["dog", "the cat", "a small mat", "mat", "cat on a mat"]
    whole, rows = encoder.encode(texts, progress=False), encoder._rows

    def small(batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no room")
        return rows(batch)

    monkeypatch.setattr(encoder, "_rows", small)
    torch.testing.assert_close(encoder.encode(texts, progress=False), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["nope", "cuda:9999", "cpu:x", 3.5, "xla"])
def test_devices_that_are_not_there(device, bert):
    with pytest.raises(ValueError, match="`device`"):
        chosen_device(device)
    with pytest.raises(ValueError, match="`device`"):
        TextEncoder(bert, device=device)


@pytest.mark.parametrize("length", [0, -1])
def test_lengths_below_one(length, bert, static):
    for model in (bert, static):
        with pytest.raises(ValueError, match=f"`max_length` must be at least 1 token, got {length}"):
            TextEncoder(model, max_length=length)


@pytest.mark.parametrize("kind", ["bert", "static"])
def test_a_prompt_that_leaves_no_room_for_a_text(kind, request):
    model, options = request.getfixturevalue(kind), {"prompt": "the small dog ", "device": "cpu"}
    with pytest.raises(ValueError, match="`max_length` is 3, of which the prompt and .* take 3: nothing of a text"):
        TextEncoder(model, max_length=3, **options)
    found = TextEncoder(model, max_length=4, **options).encode(["a dog", "cat"], progress=False)
    assert not torch.allclose(found[0], found[1])


def test_ends_that_leave_no_room_for_a_text(bert):
    words = PreTrainedTokenizerFast.from_pretrained(bert)
    ends = [("[UNK]", 1), ("[PAD]", 0)]
    words.backend_tokenizer.post_processor = TemplateProcessing(single="[UNK] $A [PAD]", special_tokens=ends)
    words.save_pretrained(bert)
    with pytest.raises(ValueError, match="`max_length` is 2, of which the prompt and .* take 2: nothing of a text"):
        TextEncoder(bert, max_length=2)
    assert TextEncoder(bert, max_length=3).settings.max_length == 3


def test_the_memory_that_is_left_is_what_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    2048 kB\n")
    (tmp_path / "limit").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    kilobytes = (str(tmp_path / "meminfo"), r"MemAvailable:\s+(\d+) kB", 1024)
    limits = [(str(tmp_path / name), r"(\d+)", 1) for name in ("limit", "none", "missing")]
    for room, expected in (([kilobytes, *limits], 2**20), ([kilobytes, *limits[1:]], 2**21)):
        monkeypatch.setattr(memory, "ROOM", room)
        assert available_memory() == expected
    monkeypatch.setattr(memory, "ROOM", limits[1:])
    assert available_memory() > 2**27  # of the whole machine
    monkeypatch.delattr(memory.os, "sysconf")
    assert available_memory() is None
