"""Training a policy on its own samples: GRPO and RLOO on TRL's trainers, with any verifier as the reward.

What the folder holds, and how a stopped training goes on, is described in ``gristmill.train.base.running``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.train.base.models import adapters, arguments, history, language_model, tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.running import Prepared, run_training
from gristmill.train.online.process import ImplicitReward, ProcessModel
from gristmill.train.online.prompts import PolicyPrompts, read_prompts
from gristmill.train.online.rewards import Judging, PolicyReward, make_rewards
from gristmill.train.online.turns import SelfCorrection, rollout


class Policy(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GRPO (arXiv 2402.03300) or RLOO (arXiv 2402.14740) on rows of ``trl-prompts``.

    In each step the model answers ``batch`` problems ``generations`` times and is trained on the answers by
    their rewards. An answer whose verdict is not decided is left out.
    """

    models: ClassVar[tuple[str, ...]] = ("model", "process_model", "process_reference")

    algorithm: Literal["grpo", "rloo"] = "grpo"
    """``grpo``: the advantage is the reward less the group's mean, over its deviation. ``rloo``: the reward
    less the mean of the others."""
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-6
    """The largest learning rate, reached at the end of the warm-up."""
    generations: Annotated[int, Meta(ge=2)] = 8
    """Answers to each problem."""
    max_tokens: Annotated[int, Meta(ge=1)] = 256
    """The largest number of tokens of an answer; of each of two turns."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Of sampling."""
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The share of the likeliest tokens that are sampled from."""
    beta: Annotated[float, Meta(ge=0)] = 0.0
    """The weight of the divergence from the weights with which the training began; 0 does without them."""
    scale: Literal["group", "batch", "none"] = "group"
    """``grpo``: whose standard deviation the advantages are divided by."""
    loss: Literal["grpo", "bnpo", "dapo", "dr_grpo"] = "dapo"
    """``grpo``: how the losses of tokens are added up, in TRL's names."""
    epsilon: Annotated[float, Meta(gt=0)] = 0.2
    """By how much the ratio of new to old probability may leave 1 before it is clipped."""
    iterations: Annotated[int, Meta(ge=1)] = 1
    """Steps on the same answers. ``save_every`` is raised to a multiple of it."""
    verifier: Judging | None = None
    """What judges answers, by ``kind``; ``null`` for the verifier that the rows name, or else ``math``."""
    rewards: tuple[PolicyReward, ...] = ()
    """The rewards, of which the weighted sum counts; none is the verdict, 0 or 1 or its score."""
    self_correction: SelfCorrection | None = None
    """Ask for a second answer, and reward that one; ``null`` for one turn."""
    process_reward: ImplicitReward | None = None
    """A reward for every token beside the verdict, as in PRIME; ``null`` for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm == "rloo" and (self.self_correction or self.process_reward):
            option = "self_correction" if self.self_correction else "process_reward"
            raise RecipeError(
                f"{option}: TRL's RLOO has one number for a whole answer, and this needs one for each token.",
                remedy="Use algorithm: grpo. With process_reward its advantages leave one out, as RLOO's do.",
            )
        if self.process_reward and (self.rewards or self.beta):
            option = "rewards" if self.rewards else "beta"
            raise RecipeError(
                f"process_reward learns from verdicts, and is not used with {option}.",
                remedy=f"Leave out {option} or process_reward.",
            )

    @property
    def process_model(self) -> str | None:
        """The folder of the process reward model, if one is named."""
        return self.process_reward.model if self.process_reward else None

    @property
    def process_reference(self) -> str | None:
        """The folder of its reference, if one is named."""
        return self.process_reward.reference if self.process_reward else None


OPTIONS = Policy


def train(options: Policy) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``. ``tokens`` are those of the prompts."""
    return run_training(options, _prepared)


def _prepared(options: Policy) -> Prepared:
    """TRL's trainer, which samples, rewards and trains."""
    import trl

    tokenizer = tokenizer_of(options)
    prompts = read_prompts(options, tokenizer)
    _check(options, prompts)
    judging = options.verifier or Judging(kind=prompts.verifier or "math")
    functions, weights = make_rewards(
        options.rewards, judging, prompts.rows, options.self_correction, options.seed
    )
    model = language_model(options)
    more: dict[str, Any] = {}
    if options.self_correction is not None:
        more["rollout_func"] = rollout(options.self_correction, tokenizer)
    rloo = options.algorithm == "rloo"
    kind = _trainer(trl.RLOOTrainer if rloo else trl.GRPOTrainer, options)
    trainer = kind(
        model=model,
        reward_funcs=functions,
        args=(trl.RLOOConfig if rloo else trl.GRPOConfig)(
            **_arguments(options, len(prompts.rows)), reward_weights=weights
        ),
        processing_class=tokenizer,
        train_dataset=prompts.dataset,
        peft_config=adapters(options.lora, model),
        callbacks=[history(options)],
        **more,
    )
    return Prepared(trainer, len(prompts.rows), prompts.too_long, prompts.tokens, 0)


def _check(options: Policy, prompts: PolicyPrompts) -> None:
    """Raise ``RecipeError`` for what the rows and options do not allow together."""
    if len(prompts.rows) < options.batch:
        raise RecipeError(
            f"batch: {options.batch} problems a step, and {options.data} has {len(prompts.rows)} that are "
            "short enough.",
            remedy=f"--set batch={len(prompts.rows)}, or give more problems.",
        )
    if options.self_correction and isinstance(prompts.rows[0]["prompt"], str):
        raise RecipeError(
            "self_correction: the prompts are text, and a second turn needs messages.",
            remedy="Write rows with 'gristmill export' as trl-prompts.",
        )


def _arguments(options: Policy, rows: int) -> dict[str, Any]:
    """TRL's arguments, of which a batch is counted in answers."""
    made = arguments(options, rows)
    # A problem that is left over at the end of an epoch is not used: TRL takes whole batches only.
    steps = options.max_steps or math.ceil(options.epochs * (rows // options.batch) * options.iterations)
    made |= {
        "warmup_steps": math.ceil(options.warmup * steps),
        "per_device_train_batch_size": options.batch // options.accumulate * options.generations,
        # A checkpoint holds no answers, so that a training can go on only where new ones are drawn.
        "save_steps": math.ceil(options.save_every / options.iterations) * options.iterations,
        "num_generations": options.generations,
        "max_completion_length": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "beta": options.beta,
        "epsilon": options.epsilon,
        "num_iterations": options.iterations,
    }
    if options.algorithm == "grpo":
        made |= {"scale_rewards": options.scale, "loss_type": options.loss}
    return made


def _trainer(base: Any, options: Policy) -> Any:
    """TRL's trainer with an order of problems that can go on in any epoch, and rewards for tokens."""
    from trl.trainer.utils import RepeatSampler

    class Sampler(RepeatSampler):  # type: ignore[misc]
        """TRL's draws the first epoch's order again where a training goes on in a later one."""

        def set_epoch(self, epoch: int) -> None:
            self.generator.manual_seed(self.seed + epoch)

    class PolicyTrainer(base):  # type: ignore[misc]
        """TRL's trainer; see ``_trainer``."""

        process: ProcessModel | None = None
        outcomes: Any = None

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            if options.process_reward is not None:
                if self.accelerator.num_processes > 1:
                    raise RecipeError(
                        "process_reward: its model learns in one process, and there are "
                        f"{self.accelerator.num_processes}.",
                        remedy="Train in one process, or without process_reward.",
                    )
                chunk = self.args.per_device_train_batch_size
                self.process = ProcessModel(options, options.process_reward, self.accelerator.device, chunk)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            made = super()._get_train_sampler(dataset)
            made.__class__ = Sampler  # made by TRL, with what it needs; only the method is new
            return made

        def _calculate_rewards(self, *given: Any) -> Any:
            self.outcomes = super()._calculate_rewards(*given)
            return self.outcomes

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            if self.process is not None:
                found = [None if math.isnan(v) else v for v in self.outcomes[:, 0].tolist()]
                batch["advantages"], loss = self.process.advantages(batch, found, options.generations)
                if loss is not None:
                    self._metrics["train"]["process_loss"].append(loss)
            return batch

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            super()._save_optimizer_and_scheduler(output_dir)
            if self.process is not None:
                self.process.save(output_dir)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            super()._load_optimizer_and_scheduler(checkpoint)
            if self.process is not None and checkpoint is not None:
                self.process.load(checkpoint)

    return PolicyTrainer
