"""Commands, called in this process, and flags that make them quick."""

from hf_vec2vec.cli import main

QUICK = ["--allow_not_aligned", "--align_starts", "1", "--align_steps", "3", "--max_steps", "4", "--hidden_dim", "16"]
QUICK += ["--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"]
QUICK += ["--disable_tqdm", "true"]
# From the one space of such a model to the other, whatever its alignment is worth.
WAY = ["--source", "a", "--target", "b", "--allow_not_aligned"]


def run(*words) -> int:
    """Exit status of `hf-vec2vec WORDS`."""
    return main([str(word) for word in words])


def train(folder, *more, output="model") -> int:
    """Exit status of a quick training on `a.npy` and `b.npy` of a folder."""
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy"]
    return run("train", *sides, "--output_dir", folder / output, *QUICK, *more)
