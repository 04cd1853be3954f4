"""Text written from a vector: a few learned prefix embeddings in front of a small causal language model."""

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..data.devices import chosen_device
from ..data.progress import progress_bar
from ..encoders.folders import model_folder
from ..encoders.writing import likeliest


class PrefixInverter(nn.Module):
    """Writes the text of a vector.

    A small network turns the vector into prefix embeddings, after which a causal language model with LoRA adapters goes on
    writing. Trained on an attacker's own texts and their vectors by his own encoder; translated vectors are then inverted as
    if his encoder had made them. Runs on a GPU if there is one.

    Args:
        model: short name of a bundled model, local folder or Hub id of a causal language model.
        dim: of the vectors.
        mean: `(d,)`, taken off the vectors, which are then scaled to norm 1.
        prefix_length: embeddings that stand for the vector.
        rank: of the adapters, on all linear layers.
        max_tokens: of a text; the rest is cut.
        seed: of all new weights and of training.

    Source: the prefix is ClipCap's (Mokady et al., 2021), the adapters are LoRA (Hu et al., 2022). Inversion of embeddings
    by a language model: Morris et al., "Text embeddings reveal (almost) as much as text", 2023.
    """

    mean: Tensor
    scale: Tensor
    language_model: Any

    def __init__(
        self,
        model: str,
        dim: int,
        mean: Tensor,
        *,
        prefix_length: int = 8,
        rank: int = 16,
        max_tokens: int = 48,
        seed: int = 0,
    ):
        super().__init__()
        folder = model_folder(model)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        auto: Any = AutoModelForCausalLM  # which gives a pair when it is asked for its report
        language_model, report = auto.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
        if report["missing_keys"]:
            raise ValueError(f"`model` {model!r} writes no text: its folder lacks {sorted(report['missing_keys'])[0]!r}.")
        self.generator = torch.Generator().manual_seed(seed)
        end = self.tokenizer.eos_token_id
        self.end = self.tokenizer.pad_token_id if end is None else end
        if self.end is None:
            raise ValueError(f"`model` {model!r} has a tokenizer without an end or padding token: a text could not end.")
        embedding = language_model.get_input_embeddings().weight
        self.prefix_length, self.max_tokens = prefix_length, max_tokens
        self.register_buffer("mean", mean)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            self.language_model = inject_adapter_in_model(adapters, language_model)
            width = embedding.shape[1]
            self.prefix = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, prefix_length * width))
        # As long as the embeddings of words: others would be a language that the model has never read.
        self.register_buffer("scale", embedding.detach().norm(dim=1).mean())
        self.to(chosen_device())

    def _prefix(self, rows: Tensor) -> Tensor:
        """`(n, d)` to `(n, prefix_length, width)`."""
        hidden = self.prefix(F.normalize(rows.to(self.mean.device) - self.mean, dim=1)).unflatten(
            1, (self.prefix_length, -1)
        )
        return self.scale * F.normalize(hidden, dim=2)

    def fit(
        self,
        rows: Tensor,
        texts: list[str],
        *,
        steps: int,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
    ) -> list[float]:
        """Train on vectors `(n, d)` and their n texts; give the loss (cross-entropy a token, in nats) of every step."""
        if len(rows) != len(texts):
            raise ValueError(f"`rows` and `texts` are {len(rows)} and {len(texts)}: one vector a text is needed.")
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        self.train()
        losses, order = [], torch.empty(0, dtype=torch.long)
        for _ in progress_bar(range(steps), desc="inverter"):
            if len(order) < batch_size:
                order = torch.cat([order, torch.randperm(len(rows), generator=self.generator)])
            picked, order = order[:batch_size], order[batch_size:]
            loss = self._loss(rows[picked], [texts[i] for i in picked.tolist()])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return losses

    def _loss(self, rows: Tensor, texts: list[str]) -> Tensor:
        ids = [self.tokenizer(t, truncation=True, max_length=self.max_tokens)["input_ids"] + [self.end] for t in texts]
        longest, device = max(map(len, ids)), self.mean.device
        tokens = torch.tensor([row + [self.end] * (longest - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        known = torch.arange(longest, device=device) < lengths[:, None]
        ahead = torch.ones(len(rows), self.prefix_length, dtype=torch.long, device=device)
        embedded = self.language_model.get_input_embeddings()(tokens)
        return self.language_model(
            inputs_embeds=torch.cat([self._prefix(rows), embedded], dim=1),
            attention_mask=torch.cat([ahead, known.long()], dim=1),
            labels=torch.cat([-100 * ahead, tokens.masked_fill(~known, -100)], dim=1),
        ).loss

    @torch.no_grad()
    def invert(self, rows: Tensor, *, batch_size: int = 32) -> list[str]:
        """The likeliest text of every vector, `(n, d)`, word by word."""
        self.eval()
        texts = []
        for batch in rows.split(batch_size):
            prefix = self._prefix(batch)
            mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
            written = likeliest(
                self.language_model,
                {"inputs_embeds": prefix, "attention_mask": mask},
                max_new_tokens=self.max_tokens,
                end=self.end,
                padding=self.end,
            )
            texts += [text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]
        return texts


__all__ = ["PrefixInverter"]
