"""A Trainer whose training rows are streams."""

import json
from pathlib import Path

from torch.utils.data import DataLoader
from transformers import TrainingArguments

from ..data.streaming import StreamedBatches, StreamedEmbeddings


class StreamTraining:
    """Mixin of a `transformers.Trainer` whose `train_dataset` may be [`StreamedEmbeddings`].

    Each process reads its part, and every checkpoint holds the place of each.
    """

    @staticmethod
    def check_streaming(args: TrainingArguments) -> None:
        """Raise ValueError for arguments that streams do not go with."""
        if args.max_steps <= 0:
            raise ValueError(f"`max_steps` is {args.max_steps}, but streams have no length. Set how many updates to make.")
        if args.dataloader_num_workers:
            raise ValueError(
                f"`dataloader_num_workers` is {args.dataloader_num_workers}, but streams are read by a thread of each "
                "process. Leave it at 0."
            )

    def get_train_dataloader(self) -> DataLoader:
        """The parent's; of streams one that knows the place where it is."""
        if not isinstance(self.train_dataset, StreamedEmbeddings):
            return super().get_train_dataloader()
        args = self.args
        self._batches = StreamedBatches(
            self.train_dataset,
            self._train_batch_size,
            args.max_steps * args.gradient_accumulation_steps,
            seed=args.seed if args.data_seed is None else args.data_seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        # Not prepared by accelerate, which would read a batch ahead of the place, or in one process for all.
        return DataLoader(self._batches, batch_size=None, pin_memory=args.dataloader_pin_memory)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if isinstance(self.train_dataset, StreamedEmbeddings):
            place = {"world_size": self.args.world_size, "spaces": self._batches.state_dict()}
            self._place_file(output_dir).write_text(json.dumps(place))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(self.train_dataset, StreamedEmbeddings):
            return
        file = self._place_file(checkpoint)
        place = json.loads(file.read_text()) if file.exists() else {"world_size": None}
        if place["world_size"] != self.args.world_size:
            found = f"of {place['world_size']}" if place["world_size"] else "without streams, or of another number"
            raise ValueError(
                f"`resume_from_checkpoint` {checkpoint!r} is of a run {found}; this one has streams and "
                f"{self.args.world_size} process(es). Resume with as many as before."
            )
        self._batches.load_state_dict(place["spaces"], self.state.global_step * self.args.gradient_accumulation_steps)

    def _place_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"stream_{self.args.process_index}.json"
