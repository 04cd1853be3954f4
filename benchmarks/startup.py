"""What the package costs before the first translation: its import, and loading a translator.

    python benchmarks/startup.py            # on a quiet machine; about three minutes

Every figure is of a fresh interpreter, ours and theirs in turn, so that both meet the same machine; files are in the disk
cache. The translator has the shape of the demo's (spaces of 384 and 256, the networks that its alignment gives it); the
stock model is a BERT of as many parameters. Both load from a local folder with their Auto class and answer one batch of 32.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import BertConfig, BertModel

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

BATCH = 32
TIMED = """
import os, sys, time
os.environ["HF_HUB_OFFLINE"] = "1"
{before}
start, cpu = time.perf_counter(), time.process_time()
{code}
print(time.perf_counter() - start, time.process_time() - cpu)
"""
OURS = """
model = AutoModel.from_pretrained({folder!r})
model.translate(torch.randn({batch}, 384), source="minilm", target="wordllama")
"""
THEIRS = """
model = AutoModel.from_pretrained({folder!r})
with torch.no_grad():
    model(input_ids=torch.ones({batch}, 16, dtype=torch.long))
"""


def timed(code: str, before: str = "") -> tuple[float, float]:
    """Seconds, and seconds of CPU, that code takes in a fresh interpreter."""
    script = TIMED.format(before=before, code=code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def models(folder: Path) -> dict[str, int]:
    """Save a translator and a stock model of as many parameters; their sizes."""
    translator = Vec2VecModel(Vec2VecConfig(embedding_dims={"minilm": 384, "wordllama": 256}))
    wanted = translator.num_parameters()
    # What four layers lack is made up for by words.
    shape = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    empty = BertModel(BertConfig(**shape, vocab_size=1)).num_parameters()
    stock = BertModel(BertConfig(**shape, vocab_size=1 + round((wanted - empty) / shape["hidden_size"])))
    translator.save_pretrained(folder / "ours")
    stock.save_pretrained(folder / "theirs")
    return {"ours": wanted, "theirs": stock.num_parameters()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        sizes = models(Path(folder))
        print(f"{sizes['ours']:,} parameters, BERT {sizes['theirs']:,}; {torch.get_num_threads()} threads")
        ready = "import torch\nfrom transformers import AutoModel\n"
        pairs = {
            "import hf_vec2vec / import transformers": (("import hf_vec2vec", ""), ("import transformers", "")),
            "from hf_vec2vec import Vec2VecModel / from transformers import AutoModel, PreTrainedModel": (
                ("from hf_vec2vec import Vec2VecModel", ""),
                ("from transformers import AutoModel, PreTrainedModel", ""),
            ),
            "load and translate / load and forward": (
                (OURS.format(folder=f"{folder}/ours", batch=BATCH), ready + "import hf_vec2vec"),
                (THEIRS.format(folder=f"{folder}/theirs", batch=BATCH), ready),
            ),
            "the same, with the classes imported before": (
                (OURS.format(folder=f"{folder}/ours", batch=BATCH), ready + "from hf_vec2vec import Vec2VecModel"),
                (THEIRS.format(folder=f"{folder}/theirs", batch=BATCH), ready + "from transformers import BertModel"),
            ),
        }
        results = {}
        for name, sides in pairs.items():
            for side in sides:
                timed(*side)  # byte code and files into the cache
            times = [[timed(*side) for side in sides] for _ in range(args.rounds)]
            medians = [[statistics.median(t[i][clock] for t in times) for i in (0, 1)] for clock in (0, 1)]
            ratios = [sorted(t[0][clock] / t[1][clock] for t in times) for clock in (0, 1)]
            results[name] = {"seconds": medians[0], "cpu_seconds": medians[1], "ratios": ratios[0], "cpu_ratios": ratios[1]}
            (ours, theirs), (ours_cpu, theirs_cpu) = medians
            print(
                f"{name}: {ours:.3f} s / {theirs:.3f} s = {ours / theirs:.2f} (pairs {ratios[0][0]:.2f} to "
                f"{ratios[0][-1]:.2f}); of CPU {ours_cpu:.3f} / {theirs_cpu:.3f} = {ours_cpu / theirs_cpu:.2f}"
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
