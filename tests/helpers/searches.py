"""Searches of an alignment that are over soon."""

from hf_vec2vec.alignment import search, third_moments

# Guesses from third moments take two thirds of a small alignment. Few of them still lead to the truth.
FEW_MOMENTS = {third_moments: {"STARTS": 32, "ASCENT": 8}}
# Every step is made, but few of each: what is found may be wrong.
SHORT = FEW_MOMENTS | {
    search: {"FIRST_STEPS": 4, "GROUP_STEPS": 2, "LOOK": 2, "MOST_LOOKS": 3, "STILL": 1, "PATIENT_LOOKS": 1, "PAIR_STEPS": 4}
}
WHOLE = {module: {name: getattr(module, name) for name in changes} for module, changes in SHORT.items()}


def set_search(changes: dict) -> None:
    """Make searches from now on whole but for these changes."""
    for module, values in (*WHOLE.items(), *changes.items()):
        for name, value in values.items():
            setattr(module, name, value)
