"""A translator as a service: vectors of one space in, vectors of another out, over HTTP.

    pip install "hf-vec2vec[serve]"
    python examples/serve.py demo/translator --port 8000

    curl localhost:8000/health
    curl localhost:8000/translate/minilm/wordllama -H "content-type: application/json" -d '{"embeddings": [[0.1, ...], ...]}'
    curl localhost:8000/translate/minilm/wordllama -H "content-type: application/octet-stream" --data-binary @rows.f32

Rows come as JSON or as raw little-endian float32, and go back in the same way; all directions of the translator are served.
What waits while a batch is computed becomes the next batch. Nothing that a client sends, or does not send, may hold others
up: rows, bytes, waiting rows and connections are limited, vectors are checked, and a client has 5 seconds for its headers,
`--body_seconds` for its vectors and 30 seconds for the whole exchange. Answers: 400 and 422 malformed or broken vectors, 404
an unknown space, 408 too slow, 413 too much, 415 another format, 503 overloaded. It is one process; more of them, TLS and
who may ask are a reverse proxy's work.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import orjson
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.requests import ClientDisconnect
from transformers import HfArgumentParser
from uvicorn.protocols.http.h11_impl import H11Protocol

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.deployment.merging import merge
from hf_vec2vec.model.modeling_vec2vec import check_embeddings

JSON, RAW = "application/json", "application/octet-stream"
LARGEST_BATCH = 256  # rows computed at a time; in a larger one small requests would wait for large ones
HEAD_SECONDS, EXCHANGE_SECONDS = 5, 30  # from connection to request, from request to an answer that was read


@dataclass
class ServeArguments:
    """What is served, and how much of it."""

    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on."})
    port: int = field(default=8000, metadata={"help": "Port to listen on."})
    max_rows: int = field(default=1024, metadata={"help": "Vectors of a request."})
    max_bytes: int = field(default=4 << 20, metadata={"help": "Of a request; parsing so much JSON holds up others."})
    max_waiting_rows: int = field(default=16_384, metadata={"help": "Vectors that wait; beyond that requests are refused."})
    max_connections: int = field(default=1024, metadata={"help": "Connections; times max_bytes: memory that clients hold."})
    body_seconds: float = field(default=10.0, metadata={"help": "Time in which a request's vectors must have come."})
    threads: int = field(default=1, metadata={"help": "That torch computes with."})

    def __post_init__(self):
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"`port` must be between 0 and {(1 << 16) - 1}, got {self.port}.")
        for name in ("max_rows", "max_bytes", "max_waiting_rows", "max_connections", "body_seconds", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}.")


class Batcher:
    """One direction. Requests that come while a batch is computed are computed together next.

    Args:
        network: raw rows `(n, d_source)` to `(n, d_target)`.
        dims: `(d_source, d_target)`.
        executor: the thread that computes, of all directions.
        max_waiting_rows: rows in the queue at most.
    """

    def __init__(self, network: torch.nn.Module, dims: tuple[int, int], executor: ThreadPoolExecutor, max_waiting_rows: int):
        self.network, self.dims, self.executor, self.max_waiting_rows = network, dims, executor, max_waiting_rows
        self.queue: asyncio.Queue[tuple[torch.Tensor, asyncio.Future]] = asyncio.Queue()
        self.waiting_rows = 0

    async def translate(self, rows: torch.Tensor) -> np.ndarray:
        """Checked rows `(n, d_source)` to `(n, d_target)`. Raises 503 if too many wait already.

        Many rows go part by part, so that others come in between.
        """
        if self.waiting_rows + len(rows) > self.max_waiting_rows:
            raise HTTPException(503, f"{self.waiting_rows} rows wait already. Try again.", {"retry-after": "1"})
        return np.concatenate([await self._translate(part) for part in rows.split(LARGEST_BATCH)])

    async def _translate(self, rows: torch.Tensor) -> np.ndarray:
        self.waiting_rows += len(rows)
        answer = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((rows, answer))
        return await answer

    async def run(self) -> None:
        """Serve the queue for ever."""
        while True:
            batch = [await self.queue.get()]
            total = len(batch[0][0])
            while not self.queue.empty() and total < LARGEST_BATCH:  # the last may go beyond: at most twice as many
                batch.append(self.queue.get_nowait())
                total += len(batch[-1][0])
            self.waiting_rows -= total
            rows, answers = zip(*batch, strict=True)
            try:
                translated = await asyncio.get_running_loop().run_in_executor(self.executor, self._compute, torch.cat(rows))
            except Exception as error:  # the next batch has another chance
                outcomes = [error] * len(answers)
            else:
                outcomes = translated.split([len(part) for part in rows])
            for answer, outcome in zip(answers, outcomes, strict=True):
                if answer.done():  # its client is gone
                    continue
                if isinstance(outcome, Exception):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome.numpy())

    @torch.inference_mode()
    def _compute(self, rows: torch.Tensor) -> torch.Tensor:
        return self.network(rows)


def create_app(model: Vec2VecModel, limits: ServeArguments) -> FastAPI:
    """The service for all directions of a translator."""
    spaces, executor = model.config.embedding_dims, ThreadPoolExecutor(1)
    directions = {
        (a, b): Batcher(merge(model, a, b), (spaces[a], spaces[b]), executor, limits.max_waiting_rows)
        for a in spaces
        for b in spaces
        if a != b
    }
    probe_direction = next(iter(directions))
    probe = model.normalizers[probe_direction[0]].inverse(torch.ones(1, spaces[probe_direction[0]])).float()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()) for batcher in directions.values()]
        yield
        for task in tasks:
            task.cancel()
        executor.shutdown(cancel_futures=True)

    app = FastAPI(title="hf_vec2vec", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict:
        """Whether a vector can be translated now, and which directions there are."""
        try:
            await asyncio.wait_for(directions[probe_direction].translate(probe), 5)
        except TimeoutError:
            raise HTTPException(503, "No translation within 5 seconds.") from None
        listed = [{"source": a, "target": b, "dimensions": batcher.dims} for (a, b), batcher in directions.items()]
        return {"status": "ok", "directions": listed, "max_rows": limits.max_rows, "max_bytes": limits.max_bytes}

    schema = {JSON: {"schema": {"type": "object", "example": {"embeddings": [[0.1, 0.2]]}}}, RAW: {}}

    @app.post("/translate/{source}/{target}", openapi_extra={"requestBody": {"required": True, "content": schema}})
    async def translate(source: str, target: str, request: Request) -> Response:
        """Rows of `source`, as JSON `{"embeddings": [[...], ...]}` or raw float32, to rows of `target`, in the same form."""
        if (batcher := directions.get((source, target))) is None:
            raise HTTPException(404, f"There is no {source[:80]!r} → {target[:80]!r}. The spaces are {list(spaces)}.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, RAW) or "content-encoding" in request.headers:
            raise HTTPException(415, f"Send {JSON} or {RAW}, not compressed.")
        body = await read_body(request, limits)
        rows = parse(body, kind, batcher.dims[0], limits.max_rows)
        translated = await batcher.translate(rows)
        if not (finite := np.isfinite(translated).all(1)).all():  # JSON has no infinity, and null would be no answer
            raise HTTPException(422, f"`embeddings`: row {finite.argmin()} is too large to be translated.")
        if kind == RAW:
            return Response(translated.astype("<f4", copy=False).tobytes(), media_type=RAW)
        return Response(
            orjson.dumps({"embeddings": translated}, option=orjson.OPT_SERIALIZE_NUMPY),
            media_type=JSON,
        )

    return app


async def read_body(request: Request, limits: ServeArguments) -> bytes:
    """The body, if it is not too large (413) and comes in time (408); after either the connection is closed.

    What is too large is read to its end and dropped: a client that is still sending when the connection closes would see
    that it was reset, and never the answer.
    """
    close = {"connection": "close"}
    too_large = int(request.headers.get("content-length", 0)) > limits.max_bytes  # h11 has seen to it that it is a number
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                too_large = too_large or len(body) + len(chunk) > limits.max_bytes
                if not too_large:
                    body += chunk
    except TimeoutError:
        if not too_large:
            raise HTTPException(408, f"The vectors did not come within {limits.body_seconds:g} seconds.", close) from None
    except ClientDisconnect:
        raise HTTPException(400, "The client went away.", close) from None
    if too_large:
        raise HTTPException(413, f"A request may have {limits.max_bytes:,} bytes.", close)
    return bytes(body)


def parse(body: bytes, kind: str, dim: int, max_rows: int) -> torch.Tensor:
    """Rows `(n, dim)`, float32; 400 for what cannot be read, 413 for too many, 422 for what are no vectors of the space."""
    if kind == RAW:
        if len(body) % (4 * dim):
            raise HTTPException(422, f"{len(body):,} bytes are no whole number of vectors of {dim} float32.")
        rows = np.frombuffer(body, "<f4").reshape(-1, dim).copy()
    else:
        try:
            values = orjson.loads(body)["embeddings"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise HTTPException(400, f'The body must be JSON, {{"embeddings": [[...], ...]}}: {error}') from None
        try:
            rows = np.asarray(values)
        except (ValueError, OverflowError):
            raise HTTPException(422, "`embeddings` must be rows of equal length.") from None
        if rows.dtype.kind not in "fiu":
            raise HTTPException(422, "`embeddings` must be rows of numbers.")
        # Beside numbers, true is a 1 to NumPy. The words are looked for first: to look at every number takes long.
        if (b"true" in body or b"false" in body) and any(isinstance(x, bool) for x in np.asarray(values, object).flat):
            raise HTTPException(422, "`embeddings` must be rows of numbers; it holds true or false.")
        with np.errstate(over="ignore"):  # an infinity is found below
            rows = rows.astype(np.float32)
    if rows.ndim and len(rows) > max_rows:
        raise HTTPException(413, f"`embeddings` has {len(rows):,} rows; a request may have {max_rows:,}.")
    try:
        return check_embeddings(torch.from_numpy(rows), "embeddings", dim)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


class ImpatientProtocol(H11Protocol):
    """uvicorn's, which waits for ever for the head of a request and for its answer to be read. This one does not."""

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has so long to ask."""
        super().connection_made(transport)
        self._allow(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Once the head of a request is whole, there is time for the exchange."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._allow(EXCHANGE_SECONDS)

    def on_response_complete(self) -> None:
        """Complete is what was written; it has still to be read, or the next request to come."""
        super().on_response_complete()
        self._allow(EXCHANGE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self.deadline.cancel()
        super().connection_lost(exc)

    def _allow(self, seconds: float) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(seconds, self.transport.abort)


def check_address(host: str, port: int) -> None:
    """Raise a ValueError if nobody can listen there, before a translator is loaded."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise ValueError(
            f"`host` {host!r} and `port` {port}: nobody can listen there: {error.strerror or error}."
        ) from error


def main() -> None:
    parser = HfArgumentParser(ServeArguments, description=__doc__.partition("\n")[0])
    parser.add_argument("translator", help="Folder or Hub id of a translator.")
    try:
        limits, rest = parser.parse_args_into_dataclasses()
        check_address(limits.host, limits.port)
        model = Vec2VecModel.from_pretrained(rest.translator)
    except (OSError, ValueError) as error:
        sys.exit(f"serve.py: {' '.join(str(error).split())}")
    torch.set_num_threads(limits.threads)
    uvicorn.run(
        create_app(model, limits),
        host=limits.host,
        port=limits.port,
        http=ImpatientProtocol,
        ws="none",
        limit_concurrency=limits.max_connections,
        h11_max_incomplete_event_size=16 << 10,
        timeout_graceful_shutdown=10,
        access_log=False,
    )


if __name__ == "__main__":
    main()
