"""Losses go where transformers' integrations send them; no code of ours stands between."""

import pytest

from helpers.training import build


def test_tensorboard_holds_every_loss_of_the_history(tmp_path, monkeypatch):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)  # as it is for a user who set none
    trainer = build(tmp_path, report_to="tensorboard", max_steps=6)
    trainer.train()
    (events,) = (tmp_path / "runs").rglob("events.out.tfevents.*")
    written = module.EventAccumulator(str(events.parent)).Reload()
    history = [entry for entry in trainer.state.log_history if "generator_loss" in entry]
    assert [entry["step"] for entry in history] == [2, 4, 6]
    names = {name for name in history[0] if name.endswith("loss") or name == "discriminator_accuracy"}
    assert {"loss", "generator_loss", "discriminator_loss", "reconstruction_loss", "cycle_loss", "vsp_loss"} <= names
    for name in names:
        scalars = written.Scalars(f"train/{name}")
        assert [scalar.step for scalar in scalars] == [2, 4, 6]
        assert [scalar.value for scalar in scalars] == pytest.approx([entry[name] for entry in history], rel=1e-6)
