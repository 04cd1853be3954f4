"""Two processes on one machine stay in step."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, torch, torch.distributed as dist
from hf_vec2vec import Vec2VecConfig, Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments
torch.manual_seed(0)
data = {"a": torch.randn(64, 6) + 1, "b": torch.randn(50, 4) - 1}
model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, discriminator_hidden_dim=16))
args = Vec2VecTrainingArguments(output_dir=sys.argv[1], max_steps=6, per_device_train_batch_size=8, use_cpu=True,
                                save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=2)
trainer = Vec2VecTrainer(model, args, data)
trainer.train()
mine = torch.cat([p.detach().flatten() for p in trainer.accelerator.unwrap_model(trainer.model).parameters()])
others = [torch.empty_like(mine) for _ in range(2)]
dist.all_gather(others, mine)
assert torch.equal(*others), "the processes drifted apart"
if dist.get_rank() == 0:
    print("in step", sorted(trainer.state.log_history[0]))
"""


@pytest.mark.slow
def test_two_processes_stay_in_step(tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"]
    done = subprocess.run(
        [*command, str(tmp_path / "run.py"), str(tmp_path / "out")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "in step" in done.stdout
    assert "discriminator_loss" in done.stdout
