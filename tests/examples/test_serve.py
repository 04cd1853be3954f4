"""The service of examples/serve.py: answers, refusals, and clients that mean harm."""

import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi.testclient import TestClient

from helpers.translators import model_of, rows_of

SCRIPT = Path(__file__).parents[2] / "examples" / "serve.py"
JSON, RAW = {"content-type": "application/json"}, {"content-type": "application/octet-stream"}
URL = "/translate/a/b"


@pytest.fixture(scope="module")
def serve():
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return model_of(("input_adapters",))


@pytest.fixture(scope="module")
def client(serve, model):
    limits = serve.ServeArguments(max_rows=20, max_bytes=4000, max_waiting_rows=100)
    with TestClient(serve.create_app(model, limits)) as client:
        yield client


def test_rows_come_back_as_the_model_translates_them_both_ways(client, model):
    rows = rows_of(model, 7)
    answer = client.post(URL, json={"embeddings": rows.tolist()})
    assert answer.status_code == 200
    expected = model.translate(rows, source="a", target="b")
    torch.testing.assert_close(torch.tensor(answer.json()["embeddings"]), expected, rtol=1e-5, atol=1e-5)
    raw = client.post(URL, content=rows.numpy().tobytes(), headers=RAW)
    torch.testing.assert_close(
        torch.from_numpy(np.frombuffer(raw.content, "<f4").reshape(7, 4).copy()), expected, rtol=1e-5, atol=1e-5
    )
    assert raw.headers["content-type"] == "application/octet-stream"
    back = client.post("/translate/b/a", json={"embeddings": expected.tolist()})
    torch.testing.assert_close(
        torch.tensor(back.json()["embeddings"]), model.translate(expected, source="b", target="a"), rtol=1e-5, atol=1e-5
    )
    assert client.post(URL, json={"embeddings": [[1, 0, 0, 0, 0, 0]]}).status_code == 200  # whole numbers are numbers
    assert client.post(URL, json={"embeddings": [row], "normalize": True}).status_code == 200  # elsewhere truths are fine


def test_health_lists_the_directions(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert {"source": "a", "target": "b", "dimensions": [6, 4]} in health["directions"]
    assert client.get("/openapi.json").status_code == 200


row = [1.0] * 6
BAD = {
    "no JSON": (400, {"content": b"{", "headers": JSON}, "must be JSON"),
    "no embeddings": (400, {"json": {"rows": [row]}}, "must be JSON"),
    "a list": (400, {"json": [row]}, "must be JSON"),
    "nothing": (400, {"content": b"", "headers": JSON}, "must be JSON"),
    "deep nesting": (400, {"content": b'{"embeddings": ' + b"[" * 3000 + b"]" * 900, "headers": JSON}, "must be JSON"),
    "NaN in JSON": (400, {"content": b'{"embeddings": [[NaN, 1, 1, 1, 1, 1]]}', "headers": JSON}, "must be JSON"),
    "null": (422, {"json": {"embeddings": [[None] * 6]}}, "numbers"),
    "words": (422, {"json": {"embeddings": [["1"] * 6]}}, "numbers"),
    "truths": (422, {"json": {"embeddings": [[True] * 6]}}, "numbers"),
    "a truth among numbers": (422, {"json": {"embeddings": [row, [True, *row[1:]]]}}, "holds true or false"),
    "huge integers": (422, {"content": b'{"embeddings": [[1%s]]}' % (b"0" * 40), "headers": JSON}, "dimension 1"),
    "infinite once float32": (422, {"json": {"embeddings": [[1e300] * 6]}}, "NaN or infinite"),
    "infinite once translated": (422, {"json": {"embeddings": [row, [3e38] * 6]}}, "row 1 is too large"),
    "raw and infinite once translated": (
        422,
        {"content": np.full(12, -3.4e38, "<f4").tobytes(), "headers": RAW},
        "row 0 is too large",
    ),
    "ragged rows": (422, {"json": {"embeddings": [row, row[:5]]}}, "equal length"),
    "one row flat": (422, {"json": {"embeddings": row}}, "must have shape"),
    "a number": (422, {"json": {"embeddings": 1.0}}, "must have shape"),
    "no rows": (422, {"json": {"embeddings": []}}, "must have shape"),
    "zeros": (422, {"json": {"embeddings": [[0.0] * 6]}}, "only zeros"),
    "another dimension": (422, {"json": {"embeddings": [[1.0] * 5]}}, "dimension 5"),
    "too many rows": (413, {"json": {"embeddings": [row] * 21}}, "21 rows"),
    "too many bytes": (413, {"content": b" " * 4001, "headers": JSON}, "4,000 bytes"),
    "half a vector": (422, {"content": b"\0" * 25, "headers": RAW}, "no whole number"),
    "NaN": (422, {"content": np.full(6, np.nan, "<f4").tobytes(), "headers": RAW}, "NaN or infinite"),
    "no raw rows": (422, {"content": b"", "headers": RAW}, "empty"),
    "another format": (415, {"content": b"x", "headers": {"content-type": "text/csv"}}, "application/json"),
    "no format": (415, {"content": b"x"}, "application/json"),
    "compressed": (415, {"content": b"x", "headers": JSON | {"content-encoding": "gzip"}}, "not compressed"),
}


@pytest.mark.parametrize(("status", "request_", "message"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(client, status, request_, message):
    answer = client.post(URL, **request_)
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.text
    assert client.get("/health").status_code == 200


def test_unknown_spaces_and_methods(client):
    assert client.post("/translate/a/a", json={"embeddings": [row]}).status_code == 404
    assert "'z' → 'b'" in client.post("/translate/z/b", json={"embeddings": [row]}).json()["detail"]
    assert client.get(URL).status_code == 405


def test_bytes_are_counted_where_no_length_is_declared(client):
    assert client.post(URL, content=(b" " * 1000 for _ in range(5)), headers=JSON).status_code == 413


@pytest.fixture(scope="module")
def address(serve, model):
    """A server on a socket, for what a client without one cannot see."""
    limits = serve.ServeArguments(max_rows=20, max_bytes=4000, body_seconds=3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            serve.create_app(model, limits), http=serve.ImpatientProtocol, ws="none", log_level="warning"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize("size", [4001, 300_000, 5 << 20, 20 << 20])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("headers", [JSON, RAW])
def test_large_requests_get_their_answer(size, declared, headers, address):
    """And no reset of the connection, which hides it."""
    body = b" " * size if declared else (b" " * 1000 for _ in range(size // 1000 + 1))
    answer = httpx.post(address + URL, content=body, headers=headers, timeout=20)
    assert (answer.status_code, "4,000 bytes" in answer.json()["detail"]) == (413, True)
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_large_request_that_does_not_come_is_not_waited_for(address):
    port = int(address.rpartition(":")[2])
    head = b"POST /translate/a/b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999\r\n\r\n"
    answer, seconds = talk(port, head, b"x" * 5000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert seconds < 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--port", "99999"], "`port` must be between 0 and 65535, got 99999"),
        ([".", "--port", "-1"], "`port` must be between"),
        ([".", "--host", "300.1.1.1"], "`host` '300.1.1.1' and `port` 8000: nobody can listen there"),
        ([".", "--max_rows", "0"], "`max_rows` must be above 0, got 0"),
        ([".", "--body_seconds", "nan"], "`body_seconds` must be above 0, got nan"),
    ],
)
def test_what_cannot_be_served_is_one_line(line, message, serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = ["--port", str(free.getsockname()[1])] if line == ["nowhere"] else []
    monkeypatch.setattr(sys, "argv", ["serve.py", *line, *port])
    with pytest.raises(SystemExit) as ended:
        serve.main()
    said = str(ended.value)
    assert message in said
    assert "\n" not in said


def test_a_port_that_is_taken_is_one_line(serve, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["serve.py", str(tmp_path), "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit, match="nobody can listen there"):
            serve.main()


def test_requests_are_computed_together_and_too_many_refused(serve, model, monkeypatch):
    sizes, held = [], threading.Event()

    def compute(self, rows):
        sizes.append(len(rows))
        if len(sizes) == 1:
            held.wait(10)
        return self.network(rows)

    monkeypatch.setattr(serve.Batcher, "_compute", torch.inference_mode()(compute))
    with TestClient(serve.create_app(model, serve.ServeArguments(max_waiting_rows=30))) as client:

        def ask(rows: torch.Tensor):
            return client.post(URL, json={"embeddings": rows.tolist()})

        parts = rows_of(model, 45).split(5)
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(ask, parts[0])
            while not sizes:
                time.sleep(0.01)
            others = [pool.submit(ask, part) for part in parts[1:]]  # 40 rows, of which 30 may wait
            while not any(other.done() for other in others):
                time.sleep(0.01)
            time.sleep(0.2)
            held.set()
            answers = [other.result() for other in others]
        assert first.result().status_code == 200
        assert sorted(answer.status_code for answer in answers) == [200] * 6 + [503] * 2
        assert sizes == [5, 30]
        for part, answer in zip(parts[1:], answers, strict=True):
            if answer.status_code == 200:  # each got its own
                expected = model.translate(part, source="a", target="b")
                torch.testing.assert_close(torch.tensor(answer.json()["embeddings"]), expected, rtol=1e-5, atol=1e-5)


def test_many_rows_are_computed_part_by_part(serve, model):
    rows = rows_of(model, 2 * serve.LARGEST_BATCH + 3)
    with TestClient(serve.create_app(model, serve.ServeArguments())) as client:
        answer = client.post(URL, content=rows.numpy().tobytes(), headers=RAW)
    found = torch.from_numpy(np.frombuffer(answer.content, "<f4").reshape(len(rows), 4).copy())
    torch.testing.assert_close(found, model.translate(rows, source="a", target="b"), rtol=1e-5, atol=1e-5)


def test_a_batch_that_fails_does_not_end_the_service(serve, model, monkeypatch):
    monkeypatch.setattr(serve.Batcher, "_compute", lambda self, rows: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with TestClient(serve.create_app(model, serve.ServeArguments()), raise_server_exceptions=False) as client:
        assert client.post(URL, json={"embeddings": [row]}).status_code == 500
        assert client.get("/health").status_code == 500
        monkeypatch.undo()
        assert client.post(URL, json={"embeddings": [row]}).status_code == 200
        assert client.get("/health").status_code == 200


def talk(port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 20.0) -> tuple[bytes, float]:
    """What comes back for pieces sent with pauses, until the server closes, and when it did."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            answer = b""
    return answer, time.monotonic() - started


@pytest.mark.slow
def test_the_real_server_outlives_its_clients(serve, model, tmp_path):
    model.save_pretrained(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, SCRIPT, tmp_path, "--port", port, "--body_seconds", "2", "--max_bytes", "100000"]
    server = subprocess.Popen([str(word) for word in command])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(300):
                try:
                    assert client.get("/health").json()["status"] == "ok"
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            head = b"POST /translate/a/b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            good = json.dumps({"embeddings": [row]}).encode()
            answer, _ = talk(port, b"nonsense\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 400")
            answer, _ = talk(port, head + b"content-length: 1000000000\r\n\r\n", b"x" * 1000)
            assert answer.startswith(b"HTTP/1.1 413")
            answer, _ = talk(port, head + b"x: " + b"y" * 100_000)
            assert answer.startswith(b"HTTP/1.1 400") or not answer
            answer, seconds = talk(port, head + b"content-length: 99\r\n\r\n", *[b" "] * 3, pause=0.5)  # a slow body
            assert answer.startswith(b"HTTP/1.1 408")
            assert seconds < 5
            answer, seconds = talk(port, *[bytes([byte]) for byte in head[:60]], pause=0.2)  # a slow head
            assert not answer
            assert serve.HEAD_SECONDS - 1 < seconds < serve.HEAD_SECONDS + 12
            answer, seconds = talk(port)  # silence
            assert not answer
            assert seconds < serve.HEAD_SECONDS + 2
            request = head + b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(good), good)
            assert talk(port, request)[0].startswith(b"HTTP/1.1 200")
            assert client.post(URL, json={"embeddings": [row]}).status_code == 200
            assert client.get("/health").json()["status"] == "ok"
    finally:
        server.terminate()
        assert server.wait(20) is not None
