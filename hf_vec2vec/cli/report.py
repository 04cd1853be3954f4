"""`report`: a page about a translator."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from .checks import check_folder, check_model
from .flags import flag
from .pairs import PairFlags, load_pairs

SYNOPSIS = "DIR --source NAME=PATH --target NAME=PATH --output_dir OUT [flags]"


@dataclass(kw_only=True)
class ReportFlags(PairFlags):
    """What a translator is reported on with. Its pairs carry their texts; without others, half of them fit the oracles."""

    title: ClassVar[str] = "flags"

    output_dir: str = flag("Folder for report.html, report.json and the pictures.")
    labelled: list[str] = flag(
        "Corpora for attributes: bbc, rotten_tomatoes, imdb, sarcasm; a data set; a file with `text` and `label`; a .yaml "
        "file (source, split, label_column, descriptions, ...).",
        ["bbc", "rotten_tomatoes"],
    )
    max_texts: int = flag("Texts of each labelled corpus, drawn at random.", 1000, minimum=1)
    out_of_domain: str | None = flag("Texts of another kind than those trained on, a file or one of these corpora.", None)
    inverter_model: str | None = flag("A causal language model that is trained to write texts from vectors (minutes).", None)
    inverter_steps: int = flag("Its training steps, of 16 texts each.", 200, minimum=1)
    privacy: bool = flag("Attack the vectors under noise, rounding and a secret rotation, too (minutes).", False)
    show_texts: bool = flag("Print texts that translations find.", False)
    trust_remote_code: bool = flag("Run the code that an encoder's repository brings along.", False)

    def __post_init__(self) -> None:
        if self.inverter_model is None and "inverter_steps" in self.given:
            raise ValueError("`inverter_steps` are of an `inverter_model`, which is not given. Give one, or leave them out.")

    def after_interrupt(self) -> str:
        """An interrupted report is written with the sections that were made."""
        return f"The sections that were done are in {self.output_dir}/report.html; the same command makes all anew."


def run(flags: ReportFlags) -> None:
    """One page about one translator: translation, attributes, inversion, pictures."""
    flags.check_folder()
    paths, other_paths = flags.paths()
    check_folder("output_dir", flags.output_dir)
    if flags.inverter_model:
        check_model("inverter_model", flags.inverter_model)
    try:
        from ..evaluation import report
    except ModuleNotFoundError as error:
        raise ImportError(f'A report needs {error.name}, which is missing: pip install "hf-vec2vec[report]"') from error
    from ..data.spaces import PairedEmbeddings
    from ..training.start import load_translator

    report.check_page(Path(flags.output_dir))
    model = load_translator(flags.folder)
    source, target = paths
    loaded = load_pairs(model, paths, flags)
    if other_paths:
        other = load_pairs(model, other_paths, flags)
    else:
        half = len(loaded[source]) // 2
        other = {name: data.select(range(half, len(data))) for name, data in loaded.items()}
        loaded = {name: data.select(range(half)) for name, data in loaded.items()}
    subject = report.Subject(
        name=Path(flags.folder).resolve().name,
        model=model,
        source=source,
        target=target,
        pairs=PairedEmbeddings(loaded),
        others=PairedEmbeddings(other),
        texts=report.texts_of(loaded[source]),
        other_texts=report.texts_of(other[source]),
        encode=report.recorded_encoders(model.config, trust_remote_code=flags.trust_remote_code),
        **report.training_record(Path(flags.folder)),
        seed=flags.seed,
    )
    output = Path(flags.output_dir)
    sections = report.write_report(
        subject,
        {
            name: partial(report.load_corpus, source, flags.max_texts, flags.seed)
            for name, source in report.corpus_names(flags.labelled).items()
        },
        output,
        foreign_texts=partial(report.load_foreign, flags.out_of_domain) if flags.out_of_domain else None,
        inverter=(flags.inverter_model, flags.inverter_steps) if flags.inverter_model else None,
        with_privacy=flags.privacy,
        show_texts=flags.show_texts,
    )
    for section in sections:
        print(f"{section.title}: {'not made: ' + section.error if section.error else 'done'}")
    print(f"\n{output}/report.html, report.json")
