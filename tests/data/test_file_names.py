from hf_vec2vec.data.file_names import file_names


def test_ordinary_names_stay_readable():
    assert file_names(["ours", "ours + Gram loss", "Größe"]) == {
        "ours": "ours",
        "ours + Gram loss": "ours---Gram-loss",
        "Größe": "Größe",
    }
    assert file_names(["rotten_tomatoes", "a/b.csv"], kept="_.") == {
        "rotten_tomatoes": "rotten_tomatoes",
        "a/b.csv": "a-b.csv",
    }


def test_no_two_names_share_a_file():
    names = ["v1.0", "v1-0", "V1 0", "other"]
    found = file_names(names)
    assert len({name.casefold() for name in found.values()}) == 4
    assert found["other"] == "other"
    assert all(found[name].lower().startswith("v1-0-") for name in names[:3])
    assert file_names(names[::-1]) == dict(reversed(found.items()))
