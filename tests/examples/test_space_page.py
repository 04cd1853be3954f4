"""The page of examples/space in headless Chromium, with the bundled encoders. Slow, and only where a Chromium is installed.

Set `SCREENSHOTS` to a folder to keep a picture of each state.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helpers.clouds import make_cloud, random_rotation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("gradio", reason="the page needs `pip install '.[space]'`")
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright")
APP = Path(__file__).parents[2] / "examples" / "space" / "app.py"
CHROMIUM = shutil.which("chromium")
LONG = 300_000  # milliseconds: a busy machine


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page, served by one command, and the folder that gradio keeps files in."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` is installed")
    cache = tmp_path_factory.mktemp("gradio")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(cache), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, APP], env=os.environ | variables)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None
            time.sleep(1)
    yield f"http://127.0.0.1:{port}/", cache
    process.terminate()
    process.wait(30)


@pytest.fixture
def browser(address):
    """A tab with the page."""
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport={"width": 1000, "height": 700})
        tab.set_default_timeout(LONG)
        tab.goto(address[0])
        tab.get_by_role("button", name="Align").wait_for()
        yield tab
        chromium.close()


def keep(tab, name: str) -> None:
    """A picture of the state, if somebody wants it."""
    if folder := os.environ.get("SCREENSHOTS"):
        tab.wait_for_timeout(1500)  # until bars and fades have ended
        tab.screenshot(path=Path(folder) / f"space_{name}.png", full_page=True)


def give(tab, tmp_path, **files: bytes | np.ndarray) -> None:
    for side, (name, content) in zip(("old", "new"), files.items(), strict=True):
        path = tmp_path / f"{name}.npy"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        with tab.expect_response(re.compile("/upload")):
            tab.locator(f"#{side}-vectors input[type=file]").set_input_files(path)
        tab.get_by_text(name).first.wait_for()  # the suffix stands in an element of its own


def test_vectors_become_a_translator_and_uploads_are_gone(browser, address, tmp_path):
    keep(browser, "start")
    rotation = random_rotation(24, 32)
    new = make_cloud(1000, seed=2) @ rotation
    give(browser, tmp_path, old=make_cloud(1000, seed=1).numpy(), new=new.numpy())
    browser.get_by_role("button", name="Align").click()
    verdict = browser.get_by_role("heading", name=re.compile("ligned|did not work"))
    verdict.wait_for()
    assert verdict.inner_text() == "Aligned", browser.locator(".prose").all_inner_texts()
    browser.locator("img[alt]").first.wait_for()
    keep(browser, "aligned")
    assert "1,000 vectors of 24 numbers" in browser.content()
    assert not list(address[1].rglob("*.npy"))
    with browser.expect_download() as download:
        browser.get_by_text("Download the translator").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "translator/model.safetensors" in archive.namelist()


def test_a_pickle_gets_a_clear_message(browser, tmp_path):
    pickled = np.array([[{"a": 1}]], dtype=object)
    np.save(tmp_path / "pickled.npy", pickled, allow_pickle=True)
    give(browser, tmp_path, pickled=(tmp_path / "pickled.npy").read_bytes(), other=make_cloud(10).numpy())
    browser.get_by_role("button", name="Align").click()
    browser.get_by_text("That did not work").wait_for()
    assert "holds object values" in browser.content()
    keep(browser, "refused")


def test_a_large_file_gets_a_clear_message(browser, tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:
        file.truncate(50 * 10**6)
    browser.locator("#old-vectors input[type=file]").set_input_files(tmp_path / "large.npy")
    browser.get_by_text(re.compile("maximum", re.IGNORECASE)).first.wait_for()
    keep(browser, "too_large")


def test_a_sentence_finds_neighbours_and_leaks(browser):
    browser.get_by_role("tab", name="Neighbours of a sentence").click()
    browser.get_by_role("button", name="Search").click()
    browser.get_by_text("texts are in both lists").wait_for()
    keep(browser, "neighbours")
    browser.get_by_role("tab", name="What leaks").click()
    browser.get_by_role("button", name="Steal its vector").click()
    browser.get_by_text("All that was stolen").wait_for()
    assert "tech" in browser.content()
    keep(browser, "leak")
