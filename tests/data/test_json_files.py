"""Files that the package wrote and a disk or a hand has changed are named, not traced back."""

import pytest

from hf_vec2vec.data.json_files import read_object, read_part


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"[1]", b"3", b'"x"'])
def test_what_is_no_object_is_named(tmp_path, content):
    (tmp_path / "training.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"training\.json' is damaged: it (is no JSON|must hold names and values)") as error:
        read_object(tmp_path / "training.json")
    assert "\n" not in str(error.value)


def test_parts_are_of_their_kind_or_empty(tmp_path):
    (tmp_path / "x.json").write_text('{"rows": [1], "facts": {"a": 2}}')
    assert read_part(tmp_path / "x.json", "rows", list) == [1]
    assert read_part(tmp_path / "x.json", "others", dict) == {}
    with pytest.raises(ValueError, match="'facts' must be a list, and is a dict"):
        read_part(tmp_path / "x.json", "facts", list)
