"""What a run has spent, and the budget that ends it.

Before a request leaves, the most that it may cost is held: its prompt, estimated from its length, and its
token limit for each answer. Where that does not fit into what is left, it waits until answers come home,
which mostly cost less than was held. Where nothing is in flight and it still does not fit, the run stops.
So what is spent stays within the budget as far as prompts are estimated well and servers count as they bill.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RunError, RunStopped
from gristmill.core.files import write_whole
from gristmill.core.money import Budget, Price, shown_usd

SPENT = ".spent.json"
"""In the run's directory: what was spent so far, for the budget of its continuation."""
_EVERY = 1.0
"""Seconds between two writings of the ledger: what a kill can leave out of it."""
_BYTES_PER_TOKEN = 3
"""Rather few, so that prompts are taken for a little longer than they are."""


class Spending(Struct):
    """What a run has spent on its engines, over all its continuations.

    ``usd`` is of the engines that have a price. ``in_flight`` requests had been sent and not been answered
    when it was written.
    """

    usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0
    in_flight: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.tokens_in + self.tokens_out

    def continued(self) -> Spending:
        """The ledger of a continuation: what a kill cut off is counted at the mean of the others."""
        share = 1 + (self.in_flight / self.requests if self.requests else 0)
        return Spending(
            self.usd * share, round(self.tokens_in * share), round(self.tokens_out * share), self.requests
        )


class Hold(Struct, frozen=True):
    """The most that one request may cost."""

    price: Price | None
    tokens_in: int
    tokens_out: int
    short: int = 0
    """The part of ``tokens_in`` that earlier prompts took beyond what they looked like."""

    @classmethod
    def of(cls, price: Price | None, request: Request, n: int, short: int = 0) -> Hold:
        """For ``n`` completions of ``request``, whose prompt may be ``short`` tokens longer than it looks."""
        texts = [request.prefix, *(m.content for m in request.messages)]
        prompt = sum(len(t.encode("utf-8", "replace")) // _BYTES_PER_TOKEN + 4 for t in texts)
        return cls(price, prompt + short, 0 if request.score else n * request.sampling.max_tokens, short)

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answers."""
        return self.tokens_in + self.tokens_out

    @property
    def usd(self) -> float:
        """Dollars; 0 without a price."""
        return 0.0 if self.price is None else self.price.usd(self.tokens_in, self.tokens_out)

    def actual(self, answers: Sequence[Completion]) -> Hold:
        """What the answers cost; where the server does not count tokens, what was held for the prompt and the
        length of the texts."""
        tokens_in = sum(a.prompt_tokens for a in answers)
        tokens_out = sum(a.completion_tokens for a in answers)
        if not tokens_in and not tokens_out:
            tokens_in = self.tokens_in
            tokens_out = sum(len(a.text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN for a in answers)
        return Hold(self.price, tokens_in, tokens_out)


class Purse:
    """Counts what a run spends, and ends it by ``stop`` before it spends more than its budget."""

    def __init__(
        self, budget: Budget | None = None, path: Path | None = None, *, fresh: bool = False
    ) -> None:
        """``path`` is the file of the ledger, from which a former one is continued unless ``fresh``.

        ``RunError`` where it holds something else.
        """
        self.budget = budget
        self.stop: Callable[[RunStopped], None] = _fail
        self._path = path
        self.spent = Spending() if path is None or fresh else _read(path)
        self._before = self.spent.usd
        self._in_flight = 0
        self._held_usd, self._held_tokens = 0.0, 0
        self._turn = asyncio.Lock()  # so that one request waits for money, and the others behind it
        self._short = 0
        """The tokens by which a prompt was underestimated most: what a chat template adds, say."""
        self._moved = asyncio.Event()
        self._written = time.monotonic()

    @property
    def usd(self) -> float:
        """What was paid since this purse was made, in dollars."""
        return self.spent.usd - self._before

    async def hold(self, price: Price | None, request: Request, n: int) -> Hold:
        """Hold what a request may cost; waits while it does not fit, and for good once the run is to stop."""
        if self.budget is None:
            return self._took(Hold.of(price, request, n, self._short))
        async with self._turn:
            while not self._fits(hold := Hold.of(price, request, n, self._short)):
                if not self._in_flight:
                    self.stop(self._used_up(hold))
                    await asyncio.get_running_loop().create_future()
                self._moved.clear()
                await self._moved.wait()
            return self._took(hold)

    def _took(self, hold: Hold) -> Hold:
        self._in_flight += 1
        self._held_usd += hold.usd
        self._held_tokens += hold.tokens
        return hold

    def settle(self, hold: Hold, answers: Sequence[Completion] | None) -> None:
        """The request is through: count what its answers cost, and hold nothing for it any longer.

        A try without an answer (``None``) counts as free, which servers' refusals are.
        """
        self._in_flight -= 1
        self._held_usd = self._held_usd - hold.usd if self._in_flight else 0.0  # no rounding error remains
        self._held_tokens -= hold.tokens
        if answers is not None:
            cost = hold.actual(answers)
            self._short = max(self._short, cost.tokens_in - (hold.tokens_in - hold.short))
            self.spent.usd += cost.usd
            self.spent.tokens_in += cost.tokens_in
            self.spent.tokens_out += cost.tokens_out
            self.spent.requests += 1
        self._moved.set()
        if time.monotonic() - self._written >= _EVERY:
            with suppress(RunError):  # a full disk ends the run where its rows are written
                self.write()

    def write(self) -> None:
        """Put the ledger in place. Raises ``RunError``."""
        self._written = time.monotonic()
        if self._path is None:
            return
        self.spent.in_flight = self._in_flight
        try:
            write_whole(self._path, msgspec.json.encode(self.spent))
        except OSError as error:
            raise RunError(
                f"cannot write {self._path}: {error.strerror or error}.",
                remedy="Free some space or make the directory writable, then run it again.",
            ) from error

    def _fits(self, hold: Hold) -> bool:
        budget = self.budget
        assert budget is not None
        usd = self.spent.usd + hold.usd + self._held_usd
        tokens = self.spent.tokens + hold.tokens + self._held_tokens
        return not (
            (budget.usd is not None and usd > budget.usd)
            or (budget.tokens is not None and tokens > budget.tokens)
        )

    def _used_up(self, hold: Hold) -> RunStopped:
        assert self.budget is not None
        usd, spent = self.budget.usd, self.spent
        if usd is not None and spent.usd + hold.usd > usd:
            key, limit, used, next_one = "usd", shown_usd(usd), shown_usd(spent.usd), shown_usd(hold.usd)
        else:
            key, limit = "tokens", f"{self.budget.tokens:,.0f} tokens"
            used, next_one = f"{spent.tokens:,}", f"{hold.tokens:,}"
        return RunStopped(
            f"the budget of {limit} is used up: {used} are spent, and the next request may take {next_one}.",
            remedy=f"Continue with a larger one: give the same command with --set budget.{key}=LIMIT. Every "
            "completion that was paid for is in the log.",
        )


def _fail(error: RunStopped) -> NoReturn:
    raise error


def _read(path: Path) -> Spending:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spending).continued()
    except FileNotFoundError:
        return Spending()
    except msgspec.DecodeError as error:
        raise RunError(
            f"{path} does not hold what the run has spent: {error}.",
            remedy="Remove it to begin counting anew, or use --fresh.",
        ) from error
