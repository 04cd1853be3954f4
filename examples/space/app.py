"""A page to try translation between embedding spaces: the layout of a Hugging Face Space, and a page of your own machine.

    pip install -e '.[space]'
    python examples/space/app.py

Then open the address that it prints. Two cores will do. What visitors upload is deleted when it is read, what is made for
them after `KEPT` seconds. Set `TRANSLATOR` to another folder or Hub id, of a translator from MiniLM to WordLlama.
"""

import html
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from search import SOURCE, TARGET, Search
from trial import COMMAND, MEANING, SECONDS, align_and_draw
from uploads import FORMATS, MEGABYTES, PASTED, ROWS, read

HERE = Path(__file__).parent
TRANSLATOR = os.environ.get("TRANSLATOR", str(HERE.parents[1] / "model_cards" / "minilm-wordllama"))
KEPT = 600  # seconds until a picture and a translator are deleted
WAITING = 8  # visitors who may wait; the next are asked to come back
UNREADABLE = (ValueError, TypeError, OSError)  # whose messages are written for users
SENTENCES = [
    "The striker scored twice and the home side won the cup.",
    "The new phone has a larger screen and a faster chip.",
    "My mother was diagnosed with cancer last spring and is in hospital.",
]
INTRODUCTION = f"""# hf_vec2vec
Turn the embeddings of one model into the embeddings of another. Neither texts nor pairs are needed, only vectors of each.
What you give here is deleted when it has been read; what is made for you, after {KEPT // 60} minutes."""
LIMITS = (
    f"Files: {', '.join(FORMATS)}, at most {MEGABYTES} MB. At most {ROWS:,} vectors a side are used, and {SECONDS} seconds. "
    "Vectors of **different** texts of the same kind on the two sides, some thousands of each, in any order."
)


def align(old_file: str | None, old_text: str, new_file: str | None, new_text: str, drop_invalid: bool) -> Iterator[tuple]:
    """What the button does: gives (what is said, picture, download) for the page; uploads are emptied, for they are gone."""

    def shown(text: str, picture: Path | None = None, archive: Path | None = None) -> tuple:
        image = gr.Image(value=None if picture is None else str(picture), visible=picture is not None)
        button = gr.DownloadButton(value=None if archive is None else str(archive), visible=archive is not None)
        return text, image, button, None, None

    yield shown("Reading …")
    with tempfile.TemporaryDirectory() as folder:
        try:
            old, about_old = read(old_file, old_text, "old", drop_invalid=drop_invalid)
            new, about_new = read(new_file, new_text, "new", drop_invalid=drop_invalid)
            about = f"{about_old}. {about_new}."
            yield shown(f"{about}\n\nAligning: up to {SECONDS} seconds …")
            trial = align_and_draw(old, new, Path(folder))
        except UNREADABLE as error:
            yield shown(failure(error))
            return
        text = f"## {trial.verdict.capitalize()}\n{MEANING[trial.verdict]}\n\n{about} {trial.report}."
        text += f" It took {trial.seconds:.0f} seconds."
        yield shown(
            text + f"\n\nThe same at home: `{COMMAND}`", trial.picture, trial.archive
        )  # copied before they are deleted


def failure(error: Exception) -> str:
    """An error, for the page. It may hold what a visitor wrote."""
    return f"### That did not work\n{html.escape(' '.join(str(error).split()), quote=False)}"


def neighbours(search: Search, sentence: str) -> tuple[str, str, str]:
    """What is said, and both lists; texts of both are bold."""
    try:
        found = search.neighbours(sentence)
    except ValueError as error:
        return failure(error), "", ""
    lists = []
    for head, side, other in (
        (f"By {SOURCE}, translated", found.translated, found.own),
        (f"By {TARGET} itself", found.own, found.translated),
    ):
        common = {text for text, _ in other}
        texts = [(html.escape(text, quote=False), cosine, "**" if text in common else "") for text, cosine in side]
        lists.append(f"#### {head}\n" + "\n".join(f"1. {bold}{text}{bold} ({cosine:.2f})" for text, cosine, bold in texts))
    return f"{found.shared} of {len(found.own)} texts are in both lists; cosines in brackets.", *lists


def leak(search: Search, sentence: str) -> str:
    """What is said about the vector of a sentence."""
    try:
        found = search.leak(sentence)
    except ValueError as error:
        return failure(error)
    numbers = ", ".join(f"{value:.3f}" for value in found.seen)
    return (
        f"**All that was stolen:** 384 numbers, `{numbers}, …`\n\n"
        f"**It is about** (nearest of five topics): {found.topic}\n\n"
        f"**Words that may be in it:** {', '.join(found.words)}\n\n"
        f"**Of the thief's own texts the most alike:** {html.escape(found.nearest, quote=False)}"
    )


def page(search: Search) -> gr.Blocks:
    """The layout."""
    with gr.Blocks(title="hf_vec2vec", analytics_enabled=False, delete_cache=(60, KEPT)) as blocks:
        gr.Markdown(INTRODUCTION)
        with gr.Tab("Align two sets of vectors"):
            gr.Markdown(LIMITS)
            given = []
            with gr.Row():
                for side in ("old", "new"):
                    with gr.Column():
                        given.append(
                            gr.File(
                                label=f"vectors of the {side} model",
                                file_types=list(FORMATS),
                                height=170,
                                elem_id=f"{side}-vectors",
                            )
                        )
                        given.append(gr.Textbox(label="or paste them, one a line", lines=2, max_lines=4, max_length=PASTED))
            drop = gr.Checkbox(label="Leave out vectors that hold NaN, infinity or only zeros")
            button = gr.Button("Align", variant="primary")
            said = gr.Markdown()
            picture = gr.Image(show_label=False, type="filepath", format="png", buttons=["fullscreen"], visible=False)
            download = gr.DownloadButton("Download the translator", visible=False)
            button.click(
                align,
                [*given, drop],
                [said, picture, download, given[0], given[2]],
                api_visibility="private",
                concurrency_limit=1,  # two cores
            )
        with gr.Tab("Neighbours of a sentence"):
            gr.Markdown(
                f"{len(search.texts):,} openings of news articles are stored as vectors of **WordLlama**. Your sentence "
                "becomes a vector of **MiniLM**, which cannot be compared with them, and is translated. Beside it: what "
                "WordLlama finds."
            )
            sentence = gr.Textbox(label="sentence", value=SENTENCES[0])
            ask = gr.Button("Search", variant="primary")
            shared = gr.Markdown()
            with gr.Row():
                lists = [gr.Markdown(), gr.Markdown()]
            gr.Examples(SENTENCES, sentence)
            ask.click(lambda text: neighbours(search, text), sentence, [shared, *lists], api_visibility="private")
        with gr.Tab("What leaks"):
            gr.Markdown(
                "Somebody steals **one vector** of MiniLM. He has neither its text nor MiniLM; he has WordLlama, news "
                "articles of his own, and a translator that was learned without a single pair. He guesses; often wrong, "
                "often not."
            )
            secret = gr.Textbox(label="secret sentence", value=SENTENCES[1])
            steal = gr.Button("Steal its vector", variant="primary")
            guessed = gr.Markdown()
            gr.Examples(SENTENCES, secret)
            steal.click(lambda text: leak(search, text), secret, guessed, api_visibility="private")
    return blocks.queue(max_size=WAITING, default_concurrency_limit=2)


def main() -> None:
    page(Search(TRANSLATOR)).launch(
        max_file_size=f"{MEGABYTES}mb",
        footer_links=["gradio"],
        theme=gr.themes.Soft(font=["sans-serif"], font_mono=["monospace"]),  # no fonts from elsewhere
        ssr_mode=False,
        strict_cors=True,
    )


if __name__ == "__main__":
    main()
