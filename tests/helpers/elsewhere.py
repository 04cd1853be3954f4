"""Other people's machines: fresh interpreters, with the unmodified transformers and huggingface_hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# A machine with torch and transformers alone: what else the package needs cannot be imported, nor can the package.
WITHOUT_PACKAGE = """
import sys

MISSING = {"hf_vec2vec", "datasets", "accelerate", "peft", "evaluate", "scipy", "sklearn", "jinja2", "pandas", "pyarrow"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args, **kwargs):
        return None if name.split(".")[0] in MISSING else self.finder.find_spec(name, *args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
TRANSLATE = """
from safetensors.torch import load_file, save_file
from transformers import AutoModel

rows = load_file({folder!r} + "/rows.safetensors")["rows"]
for i, (name, kwargs) in enumerate({calls!r}):
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=True, **kwargs)
    except OSError as error:
        with open({folder!r} + f"/refused{{i}}.txt", "w") as file:
            file.write(str(error))
        continue
    save_file({{"rows": model.translate(rows, source="a", target="b")}}, {folder!r} + f"/translated{{i}}.safetensors")
"""


# Runs what comes in on its input, one JSON string a line, and says on its output how each ended.
WORKER = """
import json, sys, traceback

for line in sys.stdin:
    try:
        exec(json.loads(line), {"__name__": "elsewhere"})
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    print(f"\\n\\0{status}", flush=True)
"""


class Machine:
    """A fresh interpreter with a Hugging Face home of its own, which runs one piece of code after the other.

    Its imports, which cost seconds, are made once. Environment as for `python`.
    """

    def __init__(self, home: Path, **environment: str):
        home.mkdir(parents=True, exist_ok=True)
        self.errors = home / "stderr"
        with open(self.errors, "w") as stream:
            command, pipe = [sys.executable, "-c", WORKER], subprocess.PIPE
            variables = _variables(home, environment)
            self.process = subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, stderr=stream, text=True)

    def run(self, code: str) -> subprocess.CompletedProcess:
        """Run code in a namespace of its own; its output and status."""
        seen = self.errors.stat().st_size
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        output = ""
        while "\0" not in output:
            output += (line := self.process.stdout.readline())
            assert line, self.errors.read_text()[seen:]
        said, _, status = output.rpartition("\n\0")
        return subprocess.CompletedProcess(code, int(status), said, self.errors.read_bytes()[seen:].decode())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def python(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter with a Hugging Face home of its own."""
    variables = _variables(home, environment)
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=600)


def _variables(home: Path, environment: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return own | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment


def translate_elsewhere(machine: Machine, folder: Path, rows: torch.Tensor, calls: list) -> list[torch.Tensor | str]:
    """What `AutoModel.from_pretrained(name, **kwargs)` makes of rows on a machine without the package, call by call.

    An `OSError` of a call is given as its message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"rows": rows}, folder / "rows.safetensors")
    done = machine.run(TRANSLATE.format(folder=str(folder), calls=calls))
    assert done.returncode == 0, done.stderr
    refused = [folder / f"refused{i}.txt" for i in range(len(calls))]
    return [
        file.read_text() if file.exists() else load_file(folder / f"translated{i}.safetensors")["rows"]
        for i, file in enumerate(refused)
    ]
