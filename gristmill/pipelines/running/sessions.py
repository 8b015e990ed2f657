"""The engines of a recipe at work, a session for each behind gates that close together; and its verifiers."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Self

from gristmill.core.contracts import check_opened
from gristmill.core.engine import Ability, Engine, LastingEngine
from gristmill.core.money import price_of
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.served import Servers
from gristmill.engines.session import Session
from gristmill.pipelines.recipe.entries import EngineEntry
from gristmill.pipelines.recipe.graph import Skills
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.summary import Spent
from gristmill.pipelines.running.gate import Gate, close_all
from gristmill.pipelines.running.purse import Purse
from gristmill.pipelines.running.work import Tools, Verify


def entries(recipe: Recipe) -> list[tuple[str | None, EngineEntry]]:
    """The recipe's engines by their names, the main one (``None``) first."""
    main = EngineEntry("engine", recipe.engine_kind, recipe.engine)
    return [(None, main), *((e.name, e) for e in recipe.engines)]


def opened(entry: EngineEntry) -> Engine:
    """The engine that an entry describes. ``RecipeError`` for one that is not all that an engine must be."""
    engine: Engine = entry.options.open()
    check_opened(entry.kind, engine)
    return engine


class Engines:
    """The engines of a recipe, opened and closed together; ``async with``.

    Names whose kind and options are equal share one engine and one session, so that a model is loaded
    once and a server is paced once. Each session has its own pacing, retries and breaker over one log.
    """

    def __init__(
        self,
        recipe: Recipe,
        log: CompletionLog,
        *,
        read_after: int | None = None,
        purse: Purse | None = None,
        servers: Servers | None = None,
    ) -> None:
        """No engine is started yet. What they cost is counted in ``purse``.

        Raises ``RecipeError`` for one that lacks what a stage needs.
        """
        self.purse = purse or Purse()
        self.gates: list[Gate] = []
        self._sessions: list[Session] = []
        self._named: dict[str | None, Session] = {}
        known: list[EngineEntry] = []
        skills: dict[str | None, Skills] = {}
        needs: dict[str | None, frozenset[Ability]] = {}
        for _, user, wanted in recipe.graph.wanted():
            needs[user] = needs.get(user, frozenset()) | wanted
        every = entries(recipe)
        for name, entry in every:
            at = next((i for i, e in enumerate(known) if e.same_as(entry)), None)
            if at is None:
                at = len(known)
                known.append(entry)
                price = price_of(recipe.prices, entry.options)
                engine = opened(entry)
                if isinstance(engine, LastingEngine):
                    engine.keep_in(log.path.parent)
                self.gates.append(Gate(engine, self.purse, price))
                of_it = [needs.get(other, frozenset()) for other, e in every if e.same_as(entry)]
                session = Session(
                    self.gates[at],
                    entry.options,
                    log,
                    read_after=read_after,
                    servers=servers,
                    needs=frozenset().union(*of_it),
                )
                self._sessions.append(session)
            self._named[name] = self._sessions[at]
            skills[name] = Skills(entry.kind, self._sessions[at].abilities)
        recipe.graph.check_engine(skills)
        self._opened = AsyncExitStack()

    @property
    def main(self) -> Session:
        """The session of the recipe's ``engine``."""
        return self._named[None]

    @property
    def named(self) -> dict[str, Session]:
        """The sessions of the recipe's ``engines`` by name."""
        return {name: session for name, session in self._named.items() if name is not None}

    @property
    def models(self) -> frozenset[str]:
        """The identities of all weights that are asked."""
        return frozenset(session.model for session in self._sessions)

    @property
    def concurrency(self) -> int:
        """The most requests in flight at all of them together."""
        return sum(s.concurrency for s in self._sessions)

    @property
    def in_flight(self) -> int:
        """The requests in flight at all of them together."""
        return sum(s.stats.in_flight for s in self._sessions)

    @property
    def spent(self) -> Spent:
        """What all of them were asked, and what the log answered instead."""
        return Spent.of(*(s.stats for s in self._sessions), usd=self.usd)

    @property
    def completions(self) -> int:
        """How many they were asked for, those included that the log had."""
        return sum(s.stats.completions + s.stats.from_log for s in self._sessions)

    @property
    def usd(self) -> float | None:
        """What was paid in this process, in dollars; ``None`` where no engine has a price."""
        return self.purse.usd if any(gate.price is not None for gate in self.gates) else None

    def tools(self, verifiers: Verifiers) -> Tools:
        """What the stages of a run may use."""
        return Tools(self.main, self.named, verifiers.main, verifiers.named, verifiers.refer)

    async def close_gates(self) -> None:
        """Let no request through any more, and wait until those in flight have ended."""
        await close_all(self.gates)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for session in self._sessions:
                await stack.enter_async_context(session)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)


class Verifiers:
    """The verifiers of a recipe, opened and closed together; equal ones share their processes.

    Raises ``RecipeError`` for one that refuses to run programs on this machine.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._stack = ExitStack()
        for options in (recipe.verifier, *recipe.verifiers.values()):
            options.sandbox()  # refuses now what no worker would start, before anything is paid for
        opened = [(recipe.verifier, recipe.verifier.open())]
        self.named: dict[str, Verify] = {}
        for name, options in recipe.verifiers.items():
            same = next((pool for known, pool in opened if known == options), None)
            if same is None:
                same = options.open()
                opened.append((options, same))
            self.named[name] = same.averify
        self.refer = recipe.refer
        self._pools = [pool for _, pool in opened]
        self.main: Verify = self._pools[0].averify

    def __enter__(self) -> Self:
        for pool in self._pools:
            self._stack.enter_context(pool)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
