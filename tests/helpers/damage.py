"""Files that were damaged: bytes of them, or values in what they say."""

import json
import math

from hypothesis import strategies as st

SIGNS = [b'"', b"\n", b"\0", b"[", b"]", b",", b"{", b"\xff\xfe", b"1e999", b"-"]
BYTES = st.one_of(st.binary(max_size=40), st.sampled_from(SIGNS))
DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), BYTES), min_size=1, max_size=4)
HOSTILE = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    0,
    10**30,
    1e300,
    math.nan,
    True,
    [[]],
    {"a": None},
    "../..",
    "\0",
    "x" * 3000,
    [1, "a"],
]


def damaged(content: bytes, damage: list) -> bytes:
    """At each place, given as a share of the file, some bytes are taken out and others put in."""
    for place, taken, put in damage:
        at = int(place * len(content))
        content = content[:at] + put + content[at + taken :]
    return content


def places(value, path: tuple = ()) -> list[tuple]:
    """The way to every value inside of one, and to itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, part in items for inner in places(part, (*path, key)))]


def changed(content: bytes, draw) -> bytes:
    """JSON with one value taken out, or a hostile one in its place."""
    value = json.loads(content)
    path = draw(st.sampled_from(places(value)))
    other = draw(st.sampled_from(["take out", *HOSTILE]))
    if not path:
        value = None if other == "take out" else other
    else:
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if other == "take out":
            del holder[path[-1]]
        else:
            holder[path[-1]] = other
    return json.dumps(value).encode()
