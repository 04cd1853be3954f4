"""Other people's machines: fresh interpreters, with the unmodified transformers and huggingface_hub."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# A machine without the package: it cannot be imported, whatever the environment has installed.
WITHOUT_PACKAGE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_vec2vec":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
TRANSLATE = """
from safetensors.torch import load_file, save_file
from transformers import AutoModel

rows = load_file({folder!r} + "/rows.safetensors")["rows"]
for i, (name, kwargs) in enumerate({calls!r}):
    model = AutoModel.from_pretrained(name, trust_remote_code=True, **kwargs)
    save_file({{"rows": model.translate(rows, source="a", target="b")}}, {folder!r} + f"/translated{{i}}.safetensors")
"""


def python(code: str, home: Path, **environment) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter with a Hugging Face home of its own."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    variables |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=600)


def translate_elsewhere(folder: Path, rows: torch.Tensor, calls: list, **environment) -> list[torch.Tensor]:
    """What `AutoModel.from_pretrained(name, **kwargs)` makes of rows on a machine without the package, call by call."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"rows": rows}, folder / "rows.safetensors")
    code = WITHOUT_PACKAGE + TRANSLATE.format(folder=str(folder), calls=calls)
    done = python(code, folder / "home", **environment)
    assert done.returncode == 0, done.stderr
    return [load_file(folder / f"translated{i}.safetensors")["rows"] for i in range(len(calls))]
