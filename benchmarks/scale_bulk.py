"""Bulk translation: rates, memory, two processes, kill −9. A section of `scale.py`.

Rates leave out starting Python and loading the model, which do not grow with the store.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from hf_vec2vec import Alignment, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.bulk.run import CPU_ROWS
from hf_vec2vec.deployment.merging import merge
from hf_vec2vec.model.layers_vec2vec import LinearPlusMLP

SOURCE, TARGET, HIDDEN = 384, 768, 1024
BATCH = 8192
ENDS = {"source": "a", "target": "b"}


def linear_translator() -> Vec2VecModel:
    """A translator whose MLPs are zero, as an alignment with `hidden_dim=0` makes it."""
    torch.manual_seed(0)
    return Vec2VecModel(Vec2VecConfig(embedding_dims={"a": SOURCE, "b": TARGET})).eval()


def residual_translator() -> Vec2VecModel:
    """A translator as `align` makes it by default: a linear map and a layer of prototypes each way."""
    torch.manual_seed(0)
    config = Vec2VecConfig(embedding_dims={"a": SOURCE, "b": TARGET}, hidden_dim=HIDDEN, activation="softmax")
    networks = LinearPlusMLP(config, SOURCE, TARGET, 1), LinearPlusMLP(config, TARGET, SOURCE, 1)
    for network in networks:
        torch.nn.init.normal_(network.output.weight, std=0.01)
    forward, backward = (network.linear.weight.detach().T for network in networks)
    spaces = [(torch.zeros(dim), torch.ones(dim)) for dim in (SOURCE, TARGET)]
    return Vec2VecModel.from_alignment(Alignment("a", "b", forward, backward, *spaces, residuals=networks))


def write_store(path: Path, rows: int) -> None:
    """Random rows in the format `.fbin`, a block at a time."""
    block = np.random.default_rng(0).standard_normal((50_000, SOURCE), dtype=np.float32)
    with open(path, "wb") as file:
        file.write(np.array([rows, SOURCE], "<u4").tobytes())
        for first in range(0, rows, len(block)):
            file.write(block[: rows - first])


def bare_numpy(path: Path, output: Path, weight: np.ndarray) -> float:
    """Rows a second of read, multiply, write, and nothing else."""
    os.sync()
    started = time.perf_counter()
    count, dim = np.fromfile(path, "<u4", 2)
    rows = np.memmap(path, np.float32, "r", 8, (int(count), int(dim)))
    with open(output, "wb") as file:
        for first in range(0, len(rows), BATCH):
            file.write(rows[first : first + BATCH] @ weight)
    return len(rows) / (time.perf_counter() - started)


@torch.inference_mode()
def bare_torch(network: torch.nn.Module, rows: int) -> float:
    """Rows a second of some layers on a batch that lies in memory."""
    batch = torch.randn(CPU_ROWS, SOURCE)  # its layers' outputs are small enough for memory that was used before
    network(batch)
    started = time.perf_counter()
    for _ in range(rows // len(batch)):
        network(batch)
    return rows // len(batch) * len(batch) / (time.perf_counter() - started)


def bulk(model: Vec2VecModel, path: Path, output: Path, **more) -> float:
    """Rows a second of `translate_store` into shards, which are deleted."""
    os.sync()
    done = translate_store(model, path, output, **ENDS, output_format="npy", progress=False, **more)
    shutil.rmtree(output)
    return done.rows / done.seconds


def rates(folder: Path, quick: bool) -> list[dict]:
    """Against bare loops, in turn, the median of the repeats."""
    repeats = 1 if quick else 5
    results = []
    store, model = folder / "linear.fbin", linear_translator()
    write_store(store, 50_000 if quick else 1_000_000)
    weight = merge(model, **ENDS).output.weights[0].T.contiguous().numpy()
    pairs = []
    for repeat in range(repeats):  # each goes first once, for memory that was just freed is faster to write to
        found = {}
        for ours in (True, False) if repeat % 2 else (False, True):
            if ours:
                found[ours] = bulk(model, store, folder / "out")
            else:
                found[ours] = bare_numpy(store, folder / "bare", weight)
                (folder / "bare").unlink()
        pairs.append((found[True], found[False]))
    results.append(_against("bulk, linear, float32 384→768", "≥ 0.8 × bare NumPy", pairs, "NumPy"))
    store.unlink()
    store, model = folder / "residual.fbin", residual_translator()
    write_store(store, 50_000 if quick else 400_000)
    network = merge(model, **ENDS)
    rows = 30_000 if quick else 200_000
    pairs = [(bulk(model, store, folder / "out"), bare_torch(network, rows)) for _ in range(repeats)]
    results.append(_against("bulk, residual, float32 384→768", "≥ 0.8 × its layers in bare torch", pairs, "torch"))
    store.unlink()
    return results


def _against(bar: str, limit: str, pairs: list[tuple[float, float]], name: str) -> dict:
    ratios = [ours / theirs for ours, theirs in pairs]
    ratio = statistics.median(ratios)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    measured = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) × ({ours:,.0f} a second, {name} {theirs:,.0f})"
    return {"bar": bar, "limit": limit, "measured": measured, "met": ratio >= 0.8}


def worker(store: str, model: str, output: str, dtype: str, shard_rows: str, own_core: str) -> None:
    """Translate, in this process or as one of several; print rows, seconds, cores that were busy and the highest memory."""
    if own_core == "True":
        os.sched_setaffinity(0, {int(os.environ.get("LOCAL_RANK", 0))})  # its threads start later and stay there, too
    translator = Vec2VecModel.from_pretrained(model)
    more = {"dtype": dtype, "shard_rows": int(shard_rows), "output_format": "npy"}
    started = time.process_time()
    done = translate_store(translator, store, output, **ENDS, **more, progress=False)
    cores = (time.process_time() - started) / done.seconds
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    found = json.dumps({"rows": done.rows, "seconds": done.seconds, "cores": cores, "peak": peak})
    os.write(1, f"DONE {found}\n".encode())  # at once: another process writes to the same pipe


def start(
    folder: Path,
    store: Path,
    dtype: str,
    processes: int = 1,
    threads: int = 0,
    shard_rows: int = 1 << 18,
    own_core: bool = False,
) -> list[dict]:
    """Run `worker` in fresh processes; what each printed."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
        command += ["--num_processes", str(processes), "--main_process_port", "29655", "--dynamo_backend", "no"]
    command += [__file__, str(store), str(folder / "model"), str(folder / "out"), dtype, str(shard_rows), str(own_core)]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    shutil.rmtree(folder / "out", ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    return [json.loads(found) for found in re.findall(r"DONE (\{.*?\})", done.stdout)]


def memory(folder: Path, quick: bool) -> dict:
    """The highest memory of a process that translates a store, and one ten times as large."""
    linear_translator().save_pretrained(folder / "model")
    peaks, seen = [], []
    for rows in (20_000, 200_000) if quick else (1_000_000, 10_000_000):
        write_store(folder / "store.fbin", rows)
        (done,) = start(folder, folder / "store.fbin", "int8")
        (folder / "store.fbin").unlink()
        peaks.append(done["peak"])
        seen.append(f"{rows:,} vectors: {done['peak'] / 2**20:,.0f} MiB, {done['rows'] / done['seconds']:,.0f} a second")
    growth = peaks[1] / peaks[0] - 1
    return {
        "bar": "bulk, peak memory (linear, to int8)",
        "limit": "equal within 5 %, ≤ 1 GiB",
        "measured": f"{'; '.join(seen)}; {growth:+.1%}",
        "met": abs(growth) <= 0.05 and max(peaks) <= 2**30,
    }


def two_processes(folder: Path, quick: bool) -> list[dict]:
    """One process against two: with a core for each, and with a thread for each that multiplies.

    In the second case one process has more than half of two cores already, for it reads and writes in other threads.
    """
    results = []
    for name, translator, rows in (("linear", linear_translator(), 1_000_000), ("residual", residual_translator(), 400_000)):
        shutil.rmtree(folder / "model", ignore_errors=True)
        translator.save_pretrained(folder / "model")
        write_store(folder / "store.fbin", 100_000 if quick else rows)
        for own_core in (True, False):
            rates, cores = {1: [], 2: []}, {1: [], 2: []}
            for count in (1, 2) * (1 if quick else 5):
                os.sync()  # else a run pays for what the one before has left to be written
                done = start(folder, folder / "store.fbin", "float16", count, 1, 1 << 13, own_core)
                rates[count].append(sum(d["rows"] for d in done) / max(d["seconds"] for d in done))
                cores[count].append(sum(d["cores"] for d in done))
            ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
            ratio = statistics.median(ratios)
            one, two, few, many = (statistics.median(side[k]) for side in (rates, cores) for k in (1, 2))
            seen = f"({two:,.0f} and {one:,.0f} a second, on {many:.1f} and {few:.1f} cores)"
            results.append(
                {
                    "bar": f"bulk, two processes against one, {name}, a {'core' if own_core else 'thread'} each",
                    "limit": "≥ 1.6 ×",
                    "measured": f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) × {seen}",
                    "met": ratio >= 1.6,
                }
            )
        (folder / "store.fbin").unlink()
    return results


def _victim(store: str, model: str, output: str, more: dict) -> None:
    torch.set_num_threads(1)
    translate_store(Vec2VecModel.from_pretrained(model), store, output, **ENDS, **more, progress=False)


def kills(folder: Path, quick: bool) -> dict:
    """Kill −9 at random moments, go on, compare every byte."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    residual_translator().save_pretrained(folder / "model")
    write_store(folder / "store.fbin", 60_000)  # so that most of the time is translating
    context = multiprocessing.get_context("forkserver")  # imports once, so that kills fall into the work
    context.set_forkserver_preload(["hf_vec2vec.bulk", "hf_vec2vec.model.modeling_vec2vec"])
    kinds = [("npy", "float32"), ("arrow", "float16"), ("parquet", "int8"), ("safetensors", "bfloat16"), ("fbin", "int8")]
    draw, equal, trials, halfway = random.Random(0), 0, 4 if quick else 20, 0
    truths: dict[str, tuple[dict, float]] = {}
    for trial in range(trials):
        output_format, dtype = kinds[trial % len(kinds)]
        more = {"output_format": output_format, "dtype": dtype, "shard_rows": 4096, "batch_size": 128}
        arguments = (str(folder / "store.fbin"), str(folder / "model"), str(folder / "out"), more)

        def run(kill_after: float | None = None, arguments=arguments) -> tuple[float, int]:
            process, started = context.Process(target=_victim, args=arguments), time.perf_counter()
            process.start()
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
            process.join()
            return time.perf_counter() - started, process.exitcode

        if output_format not in truths:
            run()  # the first of its kind pays for imports
            shutil.rmtree(folder / "out")
            seconds, _ = run()
            truths[output_format] = _contents(folder / "out"), seconds
            shutil.rmtree(folder / "out")
        truth, seconds = truths[output_format]
        _, code = run(draw.uniform(0, seconds))
        left = len(list((folder / "out").glob("data-*"))) if (folder / "out").exists() else 0
        halfway += code == -9 and left > 0
        run()
        equal += _contents(folder / "out") == truth
        shutil.rmtree(folder / "out")
    return {
        "bar": "bulk, kill −9 at random moments, then resume",
        "limit": f"{trials} of {trials} byte-equal",
        "measured": f"{equal} of {trials}, {halfway} of them killed with some shards complete",
        "met": equal == trials,
    }


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def run(folder: Path, quick: bool) -> list[dict]:
    """All bars of bulk translation."""
    return [*rates(folder, quick), memory(folder, quick), *two_processes(folder, quick), kills(folder, quick)]


if __name__ == "__main__":
    worker(*sys.argv[1:])
