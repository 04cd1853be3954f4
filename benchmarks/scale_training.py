"""Training at scale: does a run survive being killed, and does its memory stay where it is while the store grows?

    python benchmarks/scale_training.py --output scale_training    # about six minutes on one core; --quick: two

Kills: a run of `hf-vec2vec train` (random start, so that nearly all of its time is training and saving) is killed with
SIGKILL at a random moment, on half of the trials while it writes a checkpoint, and started again with
`--resume_from_checkpoint true`. Translator and discriminators must then equal those of a run that nobody disturbed, bit by
bit. Half of the trials hold the vectors in memory, half read streams (Parquet on one side, `.npy` on the other).

Memory: as many updates on stores of 50,000 and 500,000 rows a side, of which the larger is read once; peak of the process.

A run that is interrupted goes on where it was: trials are kept in `trials.json`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from hf_vec2vec.cli import main as hf_vec2vec
from hf_vec2vec.data import to_table
from hf_vec2vec.data.stream_files import open_stream
from hf_vec2vec.data.streaming import StreamedEmbeddings
from hf_vec2vec.training.checkpoints import STAGING

# A server that has imported everything forks the runs, so that moments fall into training and not into imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["hf_vec2vec.cli", "hf_vec2vec.training.trainer", "hf_vec2vec.data.stream_files"])
STEPS, SAVE_STEPS = 40, 4
KINDS = ("memory", "stream")


def run(folder: Path, quick: bool) -> list[dict]:
    """Rows of the table: `bar`, `limit`, `measured`, `met`."""
    folder.mkdir(parents=True, exist_ok=True)
    warm_up = PROCESSES.Process(target=int)
    warm_up.start()
    warm_up.join()
    return [kills(folder, 4 if quick else 20), *memory(folder, 20_000 if quick else 50_000)]


def kills(folder: Path, wanted: int) -> dict:
    """Kill and resume `wanted` runs."""
    write_store(folder / "a.parquet", 6_000, 96, seed=1)
    write_store(folder / "b.npy", 6_000, 128, seed=2)
    started = {kind: undisturbed(folder, kind) for kind in KINDS}
    record = folder / "trials.json"
    trials = json.loads(record.read_text()) if record.exists() else []
    dice = random.Random(len(trials))
    while len(trials) < wanted:
        kind = KINDS[len(trials) % 2]
        trial = kill_once(folder, kind, started[kind], in_save=len(trials) % 4 >= 2, dice=dice)
        if trial is not None:  # else the run was over before its moment came
            trials.append(trial)
            record.write_text(json.dumps(trials, indent=2))
            print(f"{len(trials):2} of {wanted}: {trial}", flush=True)
    equal, saving = sum(t["equal"] for t in trials), sum(t["while_saving"] for t in trials)
    return {
        "bar": f"training: kill -9 at {len(trials)} random moments ({saving} while a checkpoint was written), then resume",
        "limit": f"{len(trials)} of {len(trials)} bit-equal",
        "measured": f"{equal} of {len(trials)} bit-equal",
        "met": equal == len(trials),
    }


def undisturbed(folder: Path, kind: str) -> float:
    """Train without a disturbance, if that has not been done; give the seconds that it took."""
    output, clock = folder / kind, folder / f"{kind}.seconds"
    if not clock.exists():
        shutil.rmtree(output, ignore_errors=True)
        begin = time.monotonic()
        process = start(folder, kind, output)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"training failed; see {folder / 'log.txt'}")
        clock.write_text(str(time.monotonic() - begin))
    return float(clock.read_text())


def kill_once(folder: Path, kind: str, seconds: float, *, in_save: bool, dice: random.Random) -> dict | None:
    """One trial; `None` if the run ended before it could be killed."""
    output = folder / "killed"
    shutil.rmtree(output, ignore_errors=True)
    process, moment = start(folder, kind, output), dice.uniform(0.2, 1.0) * seconds  # before, it only starts up
    begin = time.monotonic()
    while process.is_alive() and time.monotonic() - begin < moment:
        time.sleep(0.002)
    if in_save:  # the next save, and some way into it
        while process.is_alive() and not (output / STAGING).exists():
            time.sleep(0.0005)
        time.sleep(dice.uniform(0, 0.1))
    if not process.is_alive():
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return None
    trial = {
        "kind": kind,
        "second": round(time.monotonic() - begin, 2),
        "while_saving": (output / STAGING).exists(),
        "checkpoint": max([int(p.name.split("-")[1]) for p in output.glob("checkpoint-*")], default=None),
    }
    resumed = start(folder, kind, output, resume=trial["checkpoint"] is not None)
    resumed.join()
    parts = ("model.safetensors", "trained/model.safetensors", f"checkpoint-{STEPS}/model.safetensors")
    same = [(output / part).read_bytes() == (folder / kind / part).read_bytes() for part in parts if resumed.exitcode == 0]
    return trial | {"equal": resumed.exitcode == 0 and all(same)}


def start(folder: Path, kind: str, output: Path, *, resume: bool = False) -> multiprocessing.Process:
    flags = ["--source", f"a={folder}/a.parquet", "--target", f"b={folder}/b.npy", "--output_dir", output]
    flags += ["--init", "random", "--hidden_dim", 64, "--dropout", 0.1, "--disable_tqdm", "true", "--max_steps", STEPS]
    flags += ["--eval_strategy", "no", "--load_best_model_at_end", "false", "--validation_rows", 200]
    flags += ["--save_strategy", "steps", "--save_steps", SAVE_STEPS, "--save_total_limit", 2, "--logging_steps", 5]
    flags += ["--gradient_accumulation_steps", 2, "--per_device_train_batch_size", 64]
    flags += ["--streaming", "--buffer_rows", 1000] if kind == "stream" else []
    flags += ["--resume_from_checkpoint", "true"] if resume else []
    process = PROCESSES.Process(target=command, args=(["train", *map(str, flags)], str(folder / "log.txt")))
    process.start()
    return process


def command(argv: list[str], log: str, peak: str | None = None) -> None:
    """What a process runs: the command line, on one thread, its output in a file."""
    torch.set_num_threads(1)
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = hf_vec2vec(argv)
    if peak:
        Path(peak).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    raise SystemExit(status)


def memory(folder: Path, rows: int) -> list[dict]:
    """Peak memory of as many updates on two stores, one ten times the other; seconds that the alignment's sample takes."""
    peaks, seconds = {}, {}
    for count in (rows, 10 * rows):
        store = {"a": folder / f"a-{count}.parquet", "b": folder / f"b-{count}.npy"}
        write_store(store["a"], count, 128, seed=1)
        write_store(store["b"], count, 96, seed=2)
        begin = time.monotonic()
        StreamedEmbeddings({name: open_stream(path) for name, path in store.items()}).sample(10_000, seed=0)
        seconds[count] = time.monotonic() - begin
        flags = ["--source", f"a={store['a']}", "--target", f"b={store['b']}", "--output_dir", folder / f"run-{count}"]
        flags += ["--streaming", "--init", "random", "--hidden_dim", 64, "--max_steps", 10 * rows // 2048, "--overwrite"]
        flags += ["--per_device_train_batch_size", 2048, "--eval_strategy", "no", "--save_strategy", "no"]
        flags += ["--load_best_model_at_end", "false", "--align_rows", 10_000, "--disable_tqdm", "true"]
        peak = folder / f"peak-{count}"
        process = PROCESSES.Process(target=command, args=(["train", *map(str, flags)], str(folder / "log.txt"), str(peak)))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"training failed; see {folder / 'log.txt'}")
        peaks[count] = int(peak.read_text()) / 1024
        for path in store.values():
            path.unlink()
    small, large = peaks.values()
    fast, slow = seconds.values()
    return [
        {
            "bar": f"training from streams of {rows:,} and {10 * rows:,} rows a side, a pass over the larger: peak memory",
            "limit": "equal within 5 %",
            "measured": f"{small:,.0f} and {large:,.0f} MiB ({large / small - 1:+.1%})",
            "met": abs(large / small - 1) <= 0.05,
        },
        {
            "bar": "the alignment's sample of 10,000 rows a side from the same stores: seconds",
            "limit": "no longer than 1.5 × + 0.5 s",
            "measured": f"{fast:.2f} and {slow:.2f} s",
            "met": slow <= 1.5 * fast + 0.5,
        },
    ]


def write_store(path: Path, rows: int, dim: int, *, seed: int) -> None:
    """Gaussian mixtures on unequal axes, in blocks."""
    if path.exists():
        return
    generator = np.random.default_rng(seed)
    centres, axes = generator.normal(size=(50, dim)), np.linspace(1.5, 0.5, dim)

    def blocks():
        for start in range(0, rows, 50_000):
            of = generator.integers(50, size=min(50_000, rows - start))
            noise = generator.standard_normal((len(of), dim), dtype=np.float32)
            yield ((centres[of] + 0.8 * noise) * axes + 0.3).astype(np.float32)

    partial = path.with_name(f".{path.name}")
    if path.suffix == ".npy":
        out = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, dim))
        for i, block in enumerate(blocks()):
            out[i * 50_000 : i * 50_000 + len(block)] = block
        del out
    else:
        schema = to_table(np.zeros((1, dim), np.float32)).schema
        with pq.ParquetWriter(partial, schema, compression="none", use_dictionary=False) as writer:
            for block in blocks():
                writer.write_table(to_table(block))
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("scale_training"))
    parser.add_argument("--quick", action="store_true", help="Fewer kills, smaller stores.")
    args = parser.parse_args()
    rows = run(args.output, args.quick)
    (args.output / "table.json").write_text(json.dumps(rows, indent=2))
    for row in rows:
        print(f"{'met   ' if row['met'] else 'MISSED'}  {row['bar']}: {row['measured']} (limit: {row['limit']})")


if __name__ == "__main__":
    main()
