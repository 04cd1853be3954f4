"""Questions with choices, as the Hub, their authors or people in their own files have them, in the Hub's schema."""

import json
import re
from collections.abc import Iterable
from string import ascii_uppercase
from typing import Any

from datasets import Dataset

from ..data.labels import MISSING

ANSWERS = ascii_uppercase[:8]  # SocialIQA's columns answerA, answerB, …
FORMS = "a list of {label, text}, {label: [...], text: [...]}, or a list of texts"
NUMBER = re.compile(r"(\d+)(?:\.0+)?")  # also as tables with gaps write it


def read_questions(rows: Iterable[dict[str, Any]]) -> Dataset:
    """Rows with `question`, `choices`, `{label, text}`, and `answerKey`, `None` where it is hidden.

    Choices that are texts alone are lettered; their `answerKey` is a letter, or a place from 0 or from 1.

    Args:
        rows: as a file has them, whose choices may be JSON.

    Raises:
        ValueError: for a row that is no question with choices, or a right choice that cannot be told; it names row and
            column.
    """
    rows = list(rows)
    listed = any("choices" in row for row in rows)
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_question(row, number, listed))
        except (KeyError, TypeError) as error:
            raise ValueError(f"row {number:,} is no question with choices: {error!r}.") from error
    _letter(found)
    return Dataset.from_list(found)


def _question(row: dict[str, Any], number: int, listed: bool) -> dict[str, Any]:
    """One row, whose choices have no label yet where they are texts alone."""
    asked: Any
    choices: Any
    answers = {letter: row[f"answer{letter}"] for letter in ANSWERS if f"answer{letter}" in row}
    if answers:
        asked = " ".join(str(row.get(part, "")) for part in ("context", "question")).strip()
        choices = {"label": list(answers), "text": list(answers.values())}
        return _flat(row, asked, choices, number, row.get("correct", row.get("label", row.get("answerKey"))))
    asked = row.get("question")
    if isinstance(asked, dict):
        return _flat(row, asked["stem"], asked["choices"], number, row.get("answerKey"))
    if not listed:
        return {"answerKey": None} | row  # of its columns one is missing, which is told where all are checked
    choices = row.get("choices")
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError as error:
            raise ValueError(f"row {number:,}: `choices` is {choices[:80]!r}, which is no JSON.") from error
    if isinstance(choices, list):
        return _flat(row, asked, choices, number, row.get("answerKey"))
    return {"answerKey": None} | row | {"choices": _columns(choices, number)}


def _flat(row: dict[str, Any], question: Any, choices: Any, number: int, answer: Any) -> dict[str, Any]:
    key = None if answer is None else str(answer)
    found = {"id": str(row.get("id", "")), "question": question}
    return found | {"choices": _columns(choices, number), "answerKey": key}


def _columns(choices: Any, number: int) -> dict[str, Any]:
    """Labels and texts of the choices; no labels (`None`) where these are texts alone."""
    where = f"row {number:,}: `choices`"
    if choices is None:
        raise ValueError(f"{where} is null; it must be {FORMS}.")
    if not choices:
        raise ValueError(f"{where} is empty; it must be {FORMS}.")
    if isinstance(choices, list):
        parts = [isinstance(choice, dict) for choice in choices]
        choices = (
            {name: [choice[name] for choice in choices] for name in ("label", "text")} if all(parts) else {"text": choices}
        )
    if not isinstance(choices, dict) or not all(isinstance(values, list) for values in choices.values()):
        raise ValueError(f"{where} must be {FORMS}, got {choices!r:.80}.")
    texts, labels = choices["text"], choices.get("label")
    for name, values, kind in (("text", texts, str), ("label", labels or [], str | int)):
        if wrong := [value for value in values if not isinstance(value, kind)]:
            raise ValueError(f"{where} has {wrong[0]!r} in {name!r}, where each choice needs its {name}.")
    if labels is not None and len(labels) != len(texts):
        raise ValueError(f"{where} has {len(labels)} labels and {len(texts)} texts.")
    if labels is None and len(texts) > len(ascii_uppercase):
        raise ValueError(f"{where} has {len(texts)} texts without labels; there are letters for {len(ascii_uppercase)}.")
    return {"label": labels, "text": texts}


def _letter(rows: list[dict[str, Any]]) -> None:
    """Give letters to choices that are texts alone, and the letter of the right one to `answerKey`."""
    plain = [
        (number, row) for number, row in enumerate(rows, start=1) if "choices" in row and row["choices"]["label"] is None
    ]
    answers: list[tuple[int, dict[str, Any], str]] = []
    for number, row in plain:
        row["choices"]["label"] = list(ascii_uppercase[: len(row["choices"]["text"])])
        key = str("" if row["answerKey"] is None else row["answerKey"]).strip()
        row["answerKey"] = None if key in ("", str(MISSING), f"{MISSING}.0") else key
        if row["answerKey"] is not None:
            answers.append((number, row, key))
    counted = bool(answers) and NUMBER.fullmatch(answers[0][2]) is not None
    places = [NUMBER.fullmatch(key) for _, _, key in answers]
    for (number, row, key), place in zip(answers, places, strict=True):
        count = len(row["choices"]["text"])
        right = place is not None and int(place[1]) <= count if counted else key.upper() in row["choices"]["label"]
        if not right:
            raise ValueError(
                f"row {number:,}: `answerKey` is {key!r}. Of choices without labels it must be a letter, "
                f"A to {ascii_uppercase[count - 1]}, or a place, the same kind in all rows. Give such "
                "answers, or `choices` with labels."
            )
    if not counted:
        for _, row, key in answers:
            row["answerKey"] = key.upper()
        return
    numbers = [int(place[1]) for place in places if place]
    from_0 = 0 in numbers
    from_1 = any(n == len(row["choices"]["text"]) for n, (_, row, _) in zip(numbers, answers, strict=True))
    if from_0 == from_1:
        told = "from 0 and from 1" if from_0 else "from 0 or from 1, and no row tells which"
        raise ValueError(f"`answerKey` counts choices {told}. Give letters, or `choices` labels.")
    for n, (_, row, _) in zip(numbers, answers, strict=True):
        row["answerKey"] = ascii_uppercase[n - from_1]


__all__ = ["read_questions"]
