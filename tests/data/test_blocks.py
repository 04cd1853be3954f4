"""Memory that blocks are read into in turn."""

import numpy as np
import torch

from hf_vec2vec.data.blocks import BufferPool
from hf_vec2vec.data.vector_files import open_files


def test_buffers_are_used_in_turn_and_grow_where_a_block_needs_more():
    buffers = BufferPool(4)
    blocks = [buffers.take(3, 4, torch.float32) for _ in range(4)]
    for number, block in enumerate(blocks):
        block.fill_(number)
    assert [block.unique().tolist() for block in blocks] == [[number] for number in range(4)]
    again = buffers.take(6, 4, torch.float16)
    assert (again.shape, again.data_ptr()) == ((6, 4), blocks[0].data_ptr())
    assert buffers.take(100, 4, torch.float32).shape == (100, 4)
    assert buffers.take(0, 4, torch.float32).shape == (0, 4)


def test_all_parts_of_all_files_are_read_into_the_same_memory(tmp_path):
    """Memory of its own for each part left holes, which grew with the store."""
    rows = np.arange(120, dtype=np.float32).reshape(60, 2)
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", rows[30 * k : 30 * k + 30])
    buffers, places, found = BufferPool(4), set(), []
    for file in open_files(tmp_path).files:
        for part in file.parts(10):
            for block in file.read(*part, 5, buffers=buffers):
                places.add(block.rows.data_ptr())
                found.append(block.rows.clone())
    assert len(places) == 4
    assert torch.equal(torch.cat(found), torch.from_numpy(rows))
