"""Translate a store with Ray Data, on as many machines as a cluster has.

    pip install "hf-vec2vec[ray]"
    python examples/translate_ray.py demo/translator minilm wordllama store translated --workers 2

The store is a Parquet file or a folder of them, on a disk or bucket that all machines see, with a column of vectors; the
other columns stay beside their rows. Each worker loads the translator once and keeps it; Ray hands it batches, and starts it
anew on another machine where one is lost. Without a cluster the workers are processes of this machine. On one machine
`hf-vec2vec translate` does the same with less, and goes on after an interruption, which this does not.
"""

import argparse

import pyarrow as pa
import ray.data
import torch

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.data.columns import EMBEDDING, vector_column
from hf_vec2vec.data.table_files import column_rows
from hf_vec2vec.deployment.merging import merge
from hf_vec2vec.model.modeling_vec2vec import check_embeddings


class Translate:
    """A worker: takes tables with vectors of one space, gives them back with vectors of the other."""

    def __init__(self, translator: str, source: str, target: str):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = Vec2VecModel.from_pretrained(translator)
        self.dim = model.config.embedding_dims[source]
        self.network = merge(model, source, target).to(self.device)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        """One batch."""
        column = vector_column(table, "a batch")
        found = column_rows(table, column, self.dim, lambda row: f"a batch, row {row}")
        rows = check_embeddings(found, "a batch", self.dim).float()
        translated = self.network(rows.to(self.device)).cpu()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(translated.reshape(-1).numpy()), translated.shape[1])
        return table.drop_columns(column).append_column(EMBEDDING, vectors)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("translator", "source", "target", "input", "output"):
        parser.add_argument(name)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=float, default=0.5, help="of each worker; what all leave over reads and writes")
    parser.add_argument("--gpus", type=float, default=0, help="of each worker")
    parser.add_argument("--batch_size", type=int, default=8192)
    args = parser.parse_args(argv)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    store = ray.data.read_parquet(args.input)
    translated = store.map_batches(
        Translate,
        fn_constructor_args=(args.translator, args.source, args.target),
        batch_format="pyarrow",
        batch_size=args.batch_size,
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_cpus=args.cpus,
        num_gpus=args.gpus,
    )
    translated.write_parquet(args.output)


if __name__ == "__main__":
    main()
