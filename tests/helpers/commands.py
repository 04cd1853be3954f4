"""Flags that make a command quick."""

QUICK = [
    "--allow_not_aligned",
    "--align_starts",
    "2",
    "--align_steps",
    "3",
    "--max_steps",
    "4",
    "--eval_strategy",
    "steps",
    "--eval_steps",
    "2",
]


QUICK += ["--save_strategy", "steps", "--save_steps", "2", "--hidden_dim", "16", "--disable_tqdm", "true"]
