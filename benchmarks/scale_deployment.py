"""Exported translators beside PyTorch, and the service of examples/serve.py under load and among hostile clients.

    python benchmarks/scale_deployment.py [--quick true] [--output_dir results]

Two translators from 384 to 768 dimensions with random weights, a linear one and one with the network that alignments have
(speed and rounding do not depend on what was learned). ONNX runs in onnxruntime with as many threads as torch, in turns with
`translate` and with the same merged layers in PyTorch. The service takes 200 requests a second of 8 vectors, at set times
whether or not earlier ones were answered; latency counts from the set time. `benchmarks/scale.py` runs this, too.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import numpy as np
import onnxruntime
import torch
from transformers import HfArgumentParser

from hf_vec2vec import Alignment, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.deployment.export import deviation, export
from hf_vec2vec.deployment.merging import merge
from hf_vec2vec.model.layers_vec2vec import LinearPlusMLP

SCRIPT = Path(__file__).parents[1] / "examples" / "serve.py"
ENDS = {"source": "old", "target": "new"}
DIMS = {"old": 384, "new": 768}
URL = "/translate/old/new"
RATE, ROWS = 200, 8


@dataclass
class DeploymentArguments:
    """How much is run."""

    quick: bool = field(default=False, metadata={"help": "Seconds instead of minutes: whether it runs, not what it gives."})
    output_dir: str | None = field(default=None, metadata={"help": "Where the JSON goes, if anywhere."})


def translator(hidden_dim: int) -> Vec2VecModel:
    """A model as alignments make it, with random weights; `hidden_dim` 0: linear."""
    torch.manual_seed(0)
    old, new = DIMS["old"], DIMS["new"]
    there, back = torch.linalg.qr(torch.randn(new, new))[0][:old], torch.linalg.qr(torch.randn(new, new))[0][:, :old]
    networks = None
    if hidden_dim:
        config = Vec2VecConfig(embedding_dims=DIMS, hidden_dim=hidden_dim, activation="softmax")
        networks = LinearPlusMLP(config, old, new, 1), LinearPlusMLP(config, new, old, 1)
        for network, weight in zip(networks, (there, back), strict=True):
            network.requires_grad_(False).linear.weight.copy_(weight.T)
            network.output.weight.normal_(std=hidden_dim**-0.5)
    statistics_of = {name: (0.02 * torch.randn(dim), torch.full((dim,), dim**-0.5)) for name, dim in DIMS.items()}
    return Vec2VecModel.from_alignment(
        Alignment("old", "new", there, back, statistics_of["old"], statistics_of["new"], residuals=networks)
    )


def rows_of(model: Vec2VecModel, rows: int) -> torch.Tensor:
    return model.normalizers["old"].inverse(torch.randn(rows, DIMS["old"], generator=torch.Generator().manual_seed(1)))


def in_turns(calls: dict[str, Callable[[], object]], repeats: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each call, in the best of `rounds` that take all of them in turn, `repeats` calls at a time.

    The best, since the others had to share the machine.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return {name: min(found) for name, found in times.items()}


def onnx_rows(folder: Path, quick: bool) -> list[dict]:
    """ONNX beside PyTorch: agreement and time, float32 and int8."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    results = []
    for name, hidden_dim in (("linear", 0), ("residual", 1024)):
        model, sessions = translator(hidden_dim), {}
        for format in ("onnx", "int8"):
            path = folder / f"{name}-{format}.onnx"
            export(model, path, **ENDS, format=format, overwrite=True)
            sessions[format] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        results += compare(name, model, sessions["onnx"], sessions["int8"], rounds=2 if quick else 8)
    return results


@torch.inference_mode()
def compare(
    name: str, model: Vec2VecModel, onnx: onnxruntime.InferenceSession, int8: onnxruntime.InferenceSession, rounds: int
) -> list[dict]:
    network, rows = merge(model, **ENDS), rows_of(model, 4096)
    expected = model.translate(rows, **ENDS)
    apart = deviation(onnx.run(None, {"embeddings": rows.numpy()})[0], expected)
    rounded = torch.from_numpy(int8.run(None, {"embeddings": rows.numpy()})[0])
    cosine = torch.cosine_similarity(rounded, expected).mean().item()
    results = [
        row(f"ONNX, {name}: agreement with `translate`", "≤ 1e-5 of a vector's length", f"{apart:.1e}", apart <= 1e-5),
        row(f"int8, {name}: cosine with `translate`", "reported", f"{cosine:.5f}", True),
    ]
    for batch in (1, 4096):
        part, inputs = rows[:batch], {"embeddings": rows[:batch].numpy()}
        calls = {
            "translate": partial(model.translate, part, **ENDS),
            "merged": partial(network, part),
            "onnx": partial(onnx.run, None, inputs),
            "int8": partial(int8.run, None, inputs),
        }
        times = in_turns(calls, repeats=30 if batch == 1 else 1, rounds=rounds)
        faster = times["translate"] / times["onnx"]
        measured = (
            f"{times['onnx']:.3f} ms, `translate` {times['translate']:.3f} ms: {faster:.2f} ×; the merged layers in PyTorch "
            f"{times['merged']:.3f} ms: {times['merged'] / times['onnx']:.2f} ×; int8 {times['int8']:.3f} ms"
        )
        results.append(row(f"ONNX, {name}, batch {batch:,}: time", "≥ 1 × `translate`", measured, faster >= 1))
    return results


def row(bar: str, limit: str, measured: str, met: bool) -> dict:
    return {"bar": bar, "limit": limit, "measured": measured, "met": bool(met)}


async def under_load(client: aiohttp.ClientSession, model: Vec2VecModel, seconds: float) -> tuple[list[float], Counter]:
    """Latencies in milliseconds, and what went wrong, of `RATE` requests a second."""
    batches = rows_of(model, 50 * ROWS).split(ROWS)
    bodies = [json.dumps({"embeddings": batch.tolist()}).encode() for batch in batches]
    expected = [model.translate(batch, **ENDS).double() for batch in batches]
    latencies, errors = [], Counter()

    async def ask(i: int, due: float) -> None:
        try:
            async with client.post(URL, data=bodies[i % 50], headers={"content-type": "application/json"}) as answer:
                content = await answer.read()
            latencies.append((time.perf_counter() - due) * 1e3)
            if answer.status != 200:
                errors[f"status {answer.status}"] += 1
            elif i % 20 == 0 and deviation(torch.tensor(json.loads(content)["embeddings"]), expected[i % 50]) > 1e-5:
                errors["another translation"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            errors[type(error).__name__] += 1

    start, asked = time.perf_counter() + 0.2, []
    for i in range(int(RATE * seconds)):
        due = start + i / RATE
        await asyncio.sleep(due - time.perf_counter())
        asked.append(asyncio.create_task(ask(i, due)))
    await asyncio.gather(*asked)
    return latencies, errors


async def exchange(port: int, *pieces: bytes, pause: float = 0.0, patience: float = 60.0) -> str:
    """What comes of pieces sent with pauses: the status of the answer, `closed`, or `still open`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    except ConnectionError:
        pass  # there may be an answer all the same
    try:
        async with asyncio.timeout(patience):
            line = await reader.readline()
        return line.split()[1].decode() if line else "closed"
    except ConnectionError:
        return "closed"
    except TimeoutError:
        return "still open"
    finally:
        writer.close()


async def unread(port: int, request: bytes, patience: float = 90.0) -> str:
    """Ask again and again for large answers and read none: `closed`, or `still open`."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        try:
            async with asyncio.timeout(patience):
                for _ in range(50):
                    await loop.sock_sendall(connection, request)
                while True:
                    connection.send(b"x")
                    await asyncio.sleep(0.5)
        except BlockingIOError:
            return "still open"
        except ConnectionError:
            return "closed"
        except TimeoutError:
            return "still open"


def hostile(port: int, quick: bool) -> dict[str, Callable[[], Awaitable[str]]]:
    """Requests that nobody should make."""
    dim, json_type, raw_type = DIMS["old"], b"application/json", b"application/octet-stream"

    def post(body: bytes, kind: bytes = json_type, path: bytes = URL.encode(), length: int | None = None) -> bytes:
        head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
        return head % (path, kind, len(body) if length is None else length) + body

    def rows(value: str, width: int = dim) -> bytes:
        return f'{{"embeddings": [[{", ".join([value] * width)}]]}}'.encode()

    unfinished = post(b"", length=1000)
    chunked = unfinished.replace(b"content-length: 1000", b"transfer-encoding: chunked")
    large = post(np.ones((1024, dim), "<f4").tobytes(), raw_type)
    requests = {
        "no HTTP": [b"\x16\x03\x01\x02\x00\x01\r\n\r\n"],
        "malformed JSON": [post(b'{"embeddings": [[1, 2')],
        "deeply nested JSON": [post(b"[" * 100_000)],
        "words for numbers": [post(rows('"1"'))],
        "another dimension": [post(rows("1", dim + 1))],
        "unknown space": [post(rows("1"), path=b"/translate/old/nowhere")],
        "NaN in JSON": [post(rows("NaN"))],
        "NaN in raw vectors": [post(np.full((3, dim), np.nan, "<f4").tobytes(), raw_type)],
        "infinite in float32": [post(rows("1e300"))],
        "half a vector": [post(b"\0" * (4 * dim + 2), raw_type)],
        "too many rows": [post(np.ones((1025, dim), "<f4").tobytes(), raw_type)],
        "too large by its own word": [post(b"x" * 1000, length=10**12)],
        "too large without a word": [chunked, *[b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 5],
        "huge header": [b"GET /health HTTP/1.1\r\nx: " + b"y" * 200_000],
    }
    calls = {name: lambda pieces=pieces: exchange(port, *pieces) for name, pieces in requests.items()}
    calls["silent"] = lambda: exchange(port)
    calls["slow headers"] = lambda: exchange(port, *[unfinished[i : i + 1] for i in range(60)], pause=0.25)
    calls["slow vectors"] = lambda: exchange(port, unfinished, *[b" "] * 4, pause=0.5)
    if not quick:
        calls["answers never read"] = lambda: unread(port, large)
    return calls


async def until_up(client: aiohttp.ClientSession) -> None:
    for _ in range(600):
        try:
            async with client.get("/health", raise_for_status=True):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.2)
    raise TimeoutError("the service did not come up in two minutes")


async def serve_and_measure(port: int, model: Vec2VecModel, quick: bool) -> list[dict]:
    """Load and hostile clients together, and the service's health after them."""
    patience, pool = aiohttp.ClientTimeout(30), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=patience, connector=pool) as client:
        await until_up(client)
        outcomes: dict[str, Counter] = {}

        async def attack(name: str, call: Callable[[], Awaitable[str]]) -> None:
            outcomes[name] = Counter(await asyncio.gather(*[call() for _ in range(5)]))

        seconds = 5 if quick else 60
        quiet = await under_load(client, model, seconds)
        attacks = [asyncio.create_task(attack(*item)) for item in hostile(port, quick).items()]
        amid = await under_load(client, model, min(seconds, 20))
        await asyncio.gather(*attacks)
        async with client.get("/health") as answer:
            health = answer.status
    results = []
    for (latencies, errors), what in ((quiet, f"{seconds} s"), (amid, "among hostile clients")):
        p50, p99 = np.percentile(latencies, (50, 99))
        measured = f"{len(latencies):,} requests, errors: {dict(errors) or 'none'}; p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        measured += f"longest {max(latencies):.0f} ms"
        results.append(row(f"service, {RATE} requests/s of {ROWS} vectors, {what}", "no error", measured, not errors))
    refused = all(status == "closed" or status.startswith("4") for found in outcomes.values() for status in found)
    measured = "; ".join(f"{name}: {'/'.join(found)}" for name, found in outcomes.items()) + f"; health after: {health}"
    results.append(
        row("service, hostile clients (5 of each at once)", "4xx or closed, service up", measured, refused and health == 200)
    )
    return results


def service_rows(folder: Path, quick: bool) -> list[dict]:
    """The real server in a process of its own, on loopback."""
    model = translator(1024)
    model.save_pretrained(folder / "served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), str(folder / "served"), "--port", str(port), "--body_seconds", "5"]
    with open(folder / "serve.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        return asyncio.run(serve_and_measure(port, model, quick))
    finally:
        server.terminate()
        server.wait(30)


def run(folder: Path, quick: bool) -> list[dict]:
    """Rows `{"bar", "limit", "measured", "met"}` of the bars on deployment; files go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [*onnx_rows(folder, quick), *service_rows(folder, quick)]


def main() -> None:
    (args,) = HfArgumentParser(DeploymentArguments).parse_args_into_dataclasses()
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder), args.quick)
    print(f"{torch.get_num_threads()} threads")
    for result in results:
        print(f"{'met   ' if result['met'] else 'MISSED'} {result['bar']} ({result['limit']}): {result['measured']}")
    if args.output_dir:
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        (Path(args.output_dir) / "scale_deployment.json").write_text(json.dumps(results, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
