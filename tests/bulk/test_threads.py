import numpy as np
import torch

from hf_vec2vec.bulk.readers import open_files
from hf_vec2vec.bulk.threads import Room


def test_room_is_used_in_turn_and_grows_where_a_block_needs_more():
    room = Room(4)
    blocks = [room.take(3, 4, torch.float32) for _ in range(4)]
    for number, block in enumerate(blocks):
        block.fill_(number)
    assert [block.unique().tolist() for block in blocks] == [[number] for number in range(4)]
    again = room.take(6, 4, torch.float16)
    assert (again.shape, again.data_ptr()) == ((6, 4), blocks[0].data_ptr())
    assert room.take(100, 4, torch.float32).shape == (100, 4)
    assert room.take(0, 4, torch.float32).shape == (0, 4)


def test_all_parts_of_all_files_are_read_into_the_same_memory(tmp_path):
    """Memory of its own for each part left holes, which grew with the store."""
    rows = np.arange(120, dtype=np.float32).reshape(60, 2)
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", rows[30 * k : 30 * k + 30])
    room, places, found = Room(4), set(), []
    for file in open_files(tmp_path):
        for part in file.parts(shard_rows=10):
            for block in file.read(*part, 5, False, room):
                places.add(block.rows.data_ptr())
                found.append(block.rows.clone())
    assert len(places) == 4
    assert torch.equal(torch.cat(found), torch.from_numpy(rows))
