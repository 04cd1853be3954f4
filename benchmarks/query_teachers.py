"""Several teachers into one index, and no pair among them: does a student that follows their mean ask better?

    python benchmarks/query_teachers.py --output OUT --folder FOLDER --questions nq squad --train nq_train squad_train \
        --index minilm --ways mpnet l3 mpnet+l3 "mpnet|l3" --students l3 --seeds 0 1 2
    python benchmarks/query_teachers.py --output OUT --report

Files are those of `query_encoder.py`; a row of zeros is a text that an encoder has not read. Passages that may train are cut
in halves: teachers know the one, the index gives the other. A seed draws nine tenths of each, turns the index's space by a
secret rotation and aligns. Ways to ask, all less the index's mean:

- A: a teacher's own vectors of the questions, translated;
- A+B: the mean of such translations, norm 1 each;
- A|B: the teachers' vectors beside each other are one space, which one translator takes into the index's.

Beside them stand the index's own encoder, asking and as a teacher of pairs, and each student in an index of its own.

A student follows a way by a regression from its vectors of the training questions, which nobody has labelled, to what that
way makes of them. With `--models STUDENT=MODEL` it is then trained on these targets, together with its projection (a
transformer by LoRA, else whole). Every cell has a JSON file of its own: a run that was interrupted goes on where it stopped.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matrix import secret_rotation
from query_encoder import TOP, answers, spread, texts_of
from torch import Tensor
from torch.nn import functional as F
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.data.staging import staged_file
from hf_vec2vec.distillation.query_encoder import query_encoder, take_off_the_middle
from hf_vec2vec.distillation.query_starts import Projection, fitted_projection, off_the_middle, translator_projection
from hf_vec2vec.distillation.query_students import open_student
from hf_vec2vec.distillation.query_training import QueryTraining, train_query_encoder

DRAWN = 0.9  # of a half
OWN = "own index"  # of a student that is asked as it is, all passages embedded by it
TRAINING = {  # by what is trained
    "lora": {"learning_rate": 1e-3, "batch_size": 32, "projection_rate": 0.3},
    "whole": {"learning_rate": 1e-3, "batch_size": 128},
}


@dataclass
class TeacherArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    folder: str = field(default="", metadata={"help": "Folder of the vectors."})
    questions: list[str] = field(default_factory=list, metadata={"help": "Sets that ask."})
    train: list[str] = field(default_factory=list, metadata={"help": "Sets that students follow on."})
    index: str = field(default="", metadata={"help": "The encoder of the index."})
    ways: list[str] = field(default_factory=list, metadata={"help": "A, A+B, A|B of encoders."})
    students: list[str] = field(default_factory=list, metadata={"help": "Encoders."})
    translators: list[str] = field(
        default_factory=list, metadata={"help": "TEACHER=FOLDER of translators that exist; spaces have the encoders' names."}
    )
    models: list[str] = field(default_factory=list, metadata={"help": "STUDENT=MODEL of those that are trained."})
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Of drawing, rotation, alignment, training."}
    )
    most_questions: int = field(default=1000, metadata={"help": "Of a set, drawn once."})
    train_texts: list[str] = field(default_factory=list, metadata={"help": "A file for each set of `train`."})
    question_texts: list[str] = field(default_factory=list, metadata={"help": "A file for each set of `questions`."})
    column: str = field(default="question", metadata={"help": "Of the texts in these files."})
    steps: int = field(default=2000, metadata={"help": "Of training."})
    bf16: bool = field(default=False, metadata={"help": "Train in bfloat16."})
    report: bool = field(default=False, metadata={"help": "Run nothing; write the table anew."})


class Setting:
    """An index, and what teachers know, by one seed."""

    def __init__(self, args: TeacherArguments, seed: int):
        self.args, self.seed, self.folder = args, seed, Path(args.folder)
        stored = self.rows("passages", args.index)
        self.known = known = stored.any(1)
        self.secret = secret_rotation(stored.shape[1], seed)
        self.index = stored[known] @ self.secret
        places = torch.where(known, known.cumsum(0) - 1, -1)
        order = torch.from_numpy(np.random.default_rng(0).permutation(np.load(self.folder / "may_train.npy")))
        half = len(order) // 2
        self.read, given = self._drawn(order[:half]), self._drawn(order[half:])
        self.given = self.index[places[given[known[given]]]]
        self.chosen = {name: self._chosen(name) for name in args.questions}
        golds = {
            name: torch.from_numpy(np.load(self.folder / f"{name}_gold.npy"))[self.chosen[name]] for name in self.chosen
        }
        self.gold = {name: torch.where(gold < 0, -1, places[gold.clamp_min(0)]) for name, gold in golds.items()}
        self.exact = {
            name: answers(self.rows(name, args.index)[self.chosen[name]] @ self.secret, self.index, self.gold[name])[0]
            for name in args.questions
        }
        encoders = {encoder for way in args.ways for encoder in names(way)} | {*args.students, args.index}
        pool = {encoder: torch.cat([self.rows(name, encoder) for name in args.train]) for encoder in encoders}
        self.followed = torch.stack([rows.any(1) for rows in pool.values()]).all(0).nonzero()[:, 0]
        self.pool = {encoder: rows[self.followed] for encoder, rows in pool.items()}

    def rows(self, name: str, encoder: str) -> Tensor:
        """Vectors of a set, norm 1 or 0."""
        return F.normalize(torch.from_numpy(np.load(self.folder / f"{name}_{encoder}.npy")).float(), dim=1)

    def _drawn(self, half: Tensor) -> Tensor:
        order = torch.randperm(len(half), generator=torch.Generator().manual_seed(self.seed))
        return half[order[: round(DRAWN * len(half))]]

    def _chosen(self, name: str) -> Tensor:
        order = torch.randperm(len(np.load(self.folder / f"{name}_gold.npy")), generator=torch.Generator().manual_seed(0))
        return order[: self.args.most_questions]

    def translator(self, encoders: tuple[str, ...]) -> Projection:
        """From one space, or several beside each other, into the index's: one that exists, or made once."""
        ready = dict(entry.split("=") for entry in self.args.translators)
        if len(encoders) == 1 and encoders[0] in ready:
            model = Vec2VecModel.from_pretrained(ready[encoders[0]])
            known = translator_projection(model, encoders[0], self.args.index)
            assert known is not None  # linear for queries
            return Projection(known.weight @ self.secret, known.bias @ self.secret)
        made = Path(self.args.output) / "translators" / f"{'-'.join(encoders)}-{self.args.index}-{self.seed}"
        if not (made / "config.json").exists():
            begun, sides = time.process_time(), [self.rows("passages", encoder)[self.read] for encoder in encoders]
            known = torch.stack([side.any(1) for side in sides]).all(0)
            beside = torch.cat([side[known] for side in sides], dim=1)
            options = {"hidden_dim": 0, "seed": self.seed, "progress": False}  # queries take the linear map
            found = align(beside, self.given, source_name="teacher", target_name="index", **options)
            print(f"{made.name}: {found.report}, {time.process_time() - begun:.0f} processor seconds", flush=True)
            Vec2VecModel.from_alignment(found, allow_not_aligned=True).save_pretrained(made)
        projection = translator_projection(Vec2VecModel.from_pretrained(made), "teacher", "index")
        assert projection is not None  # linear for queries
        return projection

    def way(self, way: str, vectors: Callable[[str], Tensor]) -> Tensor:
        """What a way makes of texts, in the index's space; `vectors`: of these texts by an encoder."""
        if "|" in way:
            return F.normalize(self.translator(names(way))(torch.cat([vectors(name) for name in names(way)], dim=1)), dim=1)
        parts = [F.normalize(self.translator((name,))(vectors(name)), dim=1) for name in names(way)]
        return torch.stack(parts).mean(0)

    def asked(self, name: str, encoder: str) -> Tensor:
        """Vectors of the questions that ask."""
        return self.rows(name, encoder)[self.chosen[name]]

    def judged(self, ask: Callable[[str], Tensor], index: Tensor | None = None) -> dict[str, dict[str, float]]:
        """Recall of the exact ten, and nDCG of known answers, of what `ask` makes of each set, in this index or another."""
        figures = {}
        for name, gold in self.gold.items():
            found = answers(ask(name), self.index if index is None else index, gold)[0]
            kept = (found[:, :, None] == self.exact[name][:, None]).any(2).float().mean().item()
            figures[name] = {"recall": kept}
            if (gold >= 0).any():
                hits = (found == gold[:, None])[gold >= 0].float()
                figures[name]["ndcg"] = (hits / torch.arange(2, TOP + 2).log2()).sum(1).mean().item()
        return figures


def names(way: str) -> tuple[str, ...]:
    """The encoders of a way."""
    return tuple(way.split("|" if "|" in way else "+"))


def cell(setting: Setting, way: str, student: str, trained: bool) -> dict:
    """Figures of a way itself, of a student that follows it, or of one that was trained on it."""
    if way == OWN:
        return setting.judged(lambda name: setting.asked(name, student), setting.rows("passages", student)[setting.known])
    if way == setting.args.index and not student:
        return setting.judged(lambda name: setting.asked(name, way) @ setting.secret)
    if not student:
        centre = setting.index.mean(0)
        return setting.judged(lambda name: setting.way(way, lambda encoder: setting.asked(name, encoder)) - centre)
    pairs = way == setting.args.index
    targets = setting.pool[way] @ setting.secret if pairs else setting.way(way, setting.pool.__getitem__)
    fitted = fitted_projection(setting.pool[student], targets, setting.index)
    if not trained:
        settled = off_the_middle(fitted, setting.index)
        return setting.judged(lambda name: settled(setting.asked(name, student)))
    return _trained(setting, student, fitted, targets)


def _trained(setting: Setting, student: str, start: Projection, targets: Tensor) -> dict:
    args, begun = setting.args, time.process_time()
    encoder = query_encoder(open_student(dict(entry.split("=") for entry in args.models)[student]), start)
    kind = "lora" if hasattr(encoder[0], "model") else "whole"
    pool = texts_of(tuple(args.train_texts), args.column)
    texts = [pool[i] for i in setting.followed.tolist()]
    training = QueryTraining(trained=kind, steps=args.steps, bf16=args.bf16, seed=setting.seed, **TRAINING[kind])
    train_query_encoder(encoder, texts, targets, setting.index, training)
    take_off_the_middle(encoder, setting.index, texts)

    def ask(name: str) -> Tensor:
        asked = texts_of((dict(zip(args.questions, args.question_texts, strict=True))[name],), args.column)
        chosen = [asked[i] for i in setting.chosen[name].tolist()]
        return encoder.encode(chosen, convert_to_tensor=True, show_progress_bar=False)

    return setting.judged(ask) | {"processor_seconds": time.process_time() - begun, "steps": args.steps}


def run(args: TeacherArguments) -> None:
    """Every cell that is not there yet, those of all seeds before any training."""
    trained = [entry.split("=")[0] for entry in args.models]
    wanted = [(args.index, "", False)] + [(way, "", False) for way in args.ways]
    wanted += [(way, student, False) for student in args.students for way in (*args.ways, args.index, OWN)]
    kinds = [wanted, [(way, student, True) for way in args.ways for student in trained]]
    opened = cache(lambda seed: Setting(args, seed))
    for cells in kinds:
        for seed in args.seeds:
            for way, student, training in cells:
                name = f"{way}_{student or 'itself'}_{'trained' if training else 'frozen'}_{seed}".replace("|", "-beside-")
                if (file := Path(args.output) / "cells" / f"{name}.json").exists():
                    continue
                figures = cell(opened(seed), way, student, training)
                print(name, json.dumps(figures), flush=True)
                with staged_file(file) as partial:
                    facts = {"way": way, "student": student, "trained": training, "seed": seed, "figures": figures}
                    partial.write_text(json.dumps(facts, indent=2))


def report(output: Path) -> None:
    """`table.md`: medians, and in brackets how far the seeds lie apart."""
    found = [json.loads(file.read_text()) for file in sorted((output / "cells").glob("*.json"))]
    sets = [name for name, figures in found[0]["figures"].items() if isinstance(figures, dict)]
    columns = [(s, name) for s in sets for name in found[0]["figures"][s]]
    lines = ["| who asks | way | seeds | " + " | ".join(f"{s}: {name}@10" for s, name in columns) + " |"]
    lines += ["| --- | --- | ---: |" + " ---: |" * len(columns)]
    for student, trained, way in sorted({(each["student"], each["trained"], each["way"]) for each in found}):
        mine = (student, trained, way)
        runs = [each["figures"] for each in found if (each["student"], each["trained"], each["way"]) == mine]
        figures = (spread([run[s][name] for run in runs]) for s, name in columns)
        who = f"{student}, trained" if trained else student or "itself"
        lines.append(f"| {who} | {way.replace('|', ' beside ')} | {len(runs)} | " + " | ".join(figures) + " |")
    (output / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    (args,) = HfArgumentParser(TeacherArguments).parse_args_into_dataclasses()
    if not args.report:
        if missing := [name for name in ("folder", "questions", "train", "index", "ways") if not getattr(args, name)]:
            sys.exit(f"`{missing[0]}` must be given.")
        run(args)
    report(Path(args.output))


if __name__ == "__main__":
    main()
