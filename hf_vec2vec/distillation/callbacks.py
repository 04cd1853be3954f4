"""What watches over a student while it is trained."""

from transformers import TrainerCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)


class StopOnCollapse(TrainerCallback):
    """Stops when the student's vectors fill far fewer dimensions than they did, for then all texts look alike to it.

    Args:
        threshold: share of the first effective rank below which training stops.
    """

    def __init__(self, threshold: float):
        self.threshold = threshold

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Compare with the untrained student on the same texts, or, without an adapter, with the first line."""
        ranks = [row["effective_rank"] for row in state.log_history if "effective_rank" in row]
        if "effective_rank" not in (logs or {}):
            return
        before = logs.get("effective_rank_before", ranks[0] if ranks else logs["effective_rank"])
        if logs["effective_rank"] < self.threshold * before:
            logger.warning(
                f"Training stops at step {state.global_step}: the student's vectors have collapsed. They fill "
                f"{logs['effective_rank']:.1f} dimensions of a batch, before it was {before:.1f}. Lower `learning_rate`, or "
                "give `gram_weight` or `contrastive_weight` some weight, which keep texts apart."
            )
            control.should_training_stop = True


__all__ = ["StopOnCollapse"]
