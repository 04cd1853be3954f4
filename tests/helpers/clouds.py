"""Clouds with the shape of text embeddings: clustered, on unequal axes."""

import torch


def make_cloud(rows: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    """Rows drawn around 30 centres of unequal weight, on axes of unequal width, off the origin."""
    world = torch.Generator().manual_seed(1)  # the same centres for every seed
    centres = torch.randn(30, dim, generator=world)
    weights = torch.rand(30, generator=world) + 0.1
    axes = torch.linspace(1.5, 0.5, dim)
    shift = torch.randn(dim, generator=world)
    draws = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(weights, rows, replacement=True, generator=draws)
    return (centres[labels] + 0.8 * torch.randn(rows, dim, generator=draws)) * axes + shift


def random_rotation(in_dim: int, out_dim: int, seed: int = 5) -> torch.Tensor:
    """Semi-orthogonal `(in_dim, out_dim)` with `in_dim <= out_dim`: lengths are kept."""
    square = torch.randn(out_dim, out_dim, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(square)[0][:in_dim]


def top1(translated: torch.Tensor, truth: torch.Tensor) -> float:
    """Share of rows whose nearest true vector, by cosine, is their own."""
    normalize = torch.nn.functional.normalize
    nearest = (normalize(translated, dim=1) @ normalize(truth, dim=1).T).argmax(1)
    return (nearest == torch.arange(len(truth))).float().mean().item()
