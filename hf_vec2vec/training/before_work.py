"""What can fail without work, told in the first second."""

from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.integrations import get_reporting_integration_callbacks

from ..sharing.hub import errors_of_one_line, retry_while_busy
from .base_arguments import BaseTrainingArguments


def check_before_work(args: BaseTrainingArguments) -> None:
    """Raise what a trainer would raise after minutes: packages that are missing, a login that is missing or not enough.

    Where the model is to be pushed, its repository is made here, if there is none.

    Raises:
        ImportError: if a package for logging or for an optimizer is missing.
        OSError: if the Hub refuses or cannot be reached.
        ValueError: for a place to log to that is unknown.
    """
    for name in args.report_to or []:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ImportError, RuntimeError) as error:
            raise ImportError(
                f"`report_to` is {name!r}, which cannot be used here: {' '.join(str(error).split())} Or leave it out."
            ) from error
        except ValueError as error:
            raise ValueError(f"`report_to` is {name!r}: {error}") from error
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"`optim` is {str(args.optim)!r}, which cannot be used here: {error}") from error
    except ValueError as error:
        if "model" not in str(error):  # some optimizers look at the model, which is not there yet
            raise
    if args.push_to_hub and args.should_save:
        repo = args.hub_model_id or Path(str(args.output_dir)).absolute().name
        api = HfApi(token=args.hub_token)
        with errors_of_one_line(repo):
            retry_while_busy(partial(api.create_repo, repo, private=args.hub_private_repo, exist_ok=True))


__all__ = ["check_before_work"]
