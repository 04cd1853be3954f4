"""What the Hub reads in a model card, and what it refuses."""

import re

import yaml


def metadata(card: str) -> dict | None:
    """The YAML between the first two lines of dashes."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", card, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def card_errors(card: str) -> list[str]:
    """What the Hub would refuse in a card's metadata."""
    try:
        data = metadata(card)
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if data is None:
        return []
    if not isinstance(data, dict):
        return ["metadata must be a mapping"]
    errors = []
    for name in ("library_name", "license", "pipeline_tag", "base_model_relation"):
        if not isinstance(data.get(name, ""), str):
            errors.append(f'"{name}" must be a string')
    for name in ("tags", "datasets", "metrics", "language", "base_model"):
        values = data.get(name, [])
        if not all(isinstance(value, str) for value in (values if isinstance(values, list) else [values])):
            errors.append(f'"{name}" must be a list of strings')
    models = data.get("base_model", [])
    for name in models if isinstance(models, list) else [models]:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name)):
            errors.append(f'"base_model" with value {name!r} is not valid: it must be a model id from the Hub')
    for entry in data.get("model-index", []):
        for result in entry.get("results", []) if "name" in entry else errors.append('"model-index" needs a name') or []:
            if not isinstance(result.get("task", {}).get("type"), str):
                errors.append('"model-index" results need a task type')
            if not {"name", "type"} <= result.get("dataset", {}).keys():
                errors.append('"model-index" results need a dataset with name and type')
            if not all({"type", "value"} <= metric.keys() for metric in result.get("metrics", [{}])):
                errors.append('"model-index" metrics need a type and a value')
    return errors
