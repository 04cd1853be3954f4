"""A tiny translator in training."""

import torch

from helpers.clouds import make_cloud
from hf_vec2vec import Vec2VecConfig, Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments


def spaces(rows=96, names=("a", "b")):
    return {name: make_cloud(rows, dim, seed=i) for i, (name, dim) in enumerate(zip(names, (6, 4, 5), strict=False))}


def arguments(folder, **kwargs) -> Vec2VecTrainingArguments:
    defaults = {
        "per_device_train_batch_size": 16,
        "max_steps": 4,
        "save_strategy": "no",
        "logging_steps": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return Vec2VecTrainingArguments(output_dir=str(folder), **defaults | kwargs)


def build(folder, config=None, eval_dataset=None, names=("a", "b"), **kwargs) -> Vec2VecTrainer:
    torch.manual_seed(0)
    dims = {"embedding_dims": {name: rows.shape[1] for name, rows in spaces(names=names).items()}}
    shape = {"hidden_dim": 16, "discriminator_hidden_dim": 16}
    model = Vec2VecModel(config or Vec2VecConfig(**dims, **shape))
    return Vec2VecTrainer(model, arguments(folder, **kwargs), spaces(names=names), eval_dataset)


def weights(trainer: Vec2VecTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
