"""A rollback: the replicas go back to a tree that they have, and its result tells the same as a push's.

What it went back to, and how many files that changed, the replicas' histories tell afterwards. That is looked up with a
bound: a rollback that was kept is not made to wait, or to fail, for the sake of its numbers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from codesync.client.lease import end_of, lease
from codesync.client.push import new_push_id
from codesync.client.results import (
    ClientError,
    FileCounts,
    ProgressCallback,
    PushResult,
    checked_description,
    checked_push_id,
    crashes,
)
from codesync.client.results import Progress as ClientProgress
from codesync.client.session import Session, asking, persistently
from codesync.client.trees import KnownTrees, decode_tree
from codesync.config import Settings
from codesync.connection import Disconnected
from codesync.delta import difference
from codesync.plan import ReplicaTree
from codesync.protocol import KEPT_STATUSES, DeploymentState, Outcome, Progress, Rollback, TreeRef

LOOK_SECONDS = 5.0


class Rollbacker:
    """One rollback, to the tree that the push `to` left, "" for the one before the present; `run` it once.

    Raises ClientError where `to` or the description cannot be sent.
    """

    def __init__(
        self, settings: Settings, to: str, description: str, progress: ProgressCallback | None
    ) -> None:
        to = checked_push_id(to) if to else ""
        self._settings = settings
        self._progress = progress or (lambda _: None)
        self._known = KnownTrees(f"{settings.cache_dir}/trees")
        self._bases: dict[TreeRef, ReplicaTree] = {}
        self._begun = False
        self._outcome: Outcome | None = None
        self._result = PushResult(
            new_push_id(), settings.app_id, settings.deployment_id, "failed", restores=to
        )
        self._words = Rollback(
            push_id=self._result.push_id,
            to=to,
            source=settings.source,
            description=checked_description(description),
            hooks=settings.hooks,
        )

    async def run(self) -> PushResult:
        """Roll back. Raises UserError: one line that says what to do."""
        try:
            outcome = await persistently(self._settings, self._relay, self._converse)
            if outcome.status in (*KEPT_STATUSES, "partial"):
                with suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS), asking(self._settings) as session:
                        await self._look_back(session)
        except asyncio.CancelledError:
            if not self._begun:
                self._progress(ClientProgress("cancelled", "", 0, 0))
            elif self._outcome is not None and (end := end_of(self._outcome)) is not None:
                self._progress(end)
            raise
        return self._result.finish(outcome, self._words.hooks)

    async def _converse(self, session: Session) -> Outcome:
        self._result.crashed_after = crashes(session.deployment)
        if not self._begun:
            await self._remember(session, session.deployment)
        self._begun = True
        async with lease(session, self._words.push_id, self._progress) as held:
            held.sent = True
            await session.send(self._words)
            words = self._words
            self._outcome = await session.wait(session.ended, "outcome of the rollback", hooks=words.hooks)
            return self._outcome

    async def _remember(self, session: Session, deployment: DeploymentState) -> None:
        """The trees that replicas have now: afterwards nobody can be asked for them."""
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                for ref in dict.fromkeys(state.tree for state in deployment.replicas):
                    self._bases[ref] = await self._tree(session, ref)

    async def _look_back(self, session: Session) -> None:
        """Fill in what it went back to, and what that has changed."""
        for state in session.deployment.replicas:
            for before, entry in zip((None, *state.history), state.history, strict=False):
                if entry.push_id == self._words.push_id:
                    self._result.restores = entry.restores
                    if before is not None and before.tree in self._bases and entry.tree == state.tree:
                        self._count(self._bases[before.tree], await self._tree(session, entry.tree))
                        return

    def _count(self, base: ReplicaTree, target: ReplicaTree) -> None:
        found = difference(base.manifest, target.manifest, exact=True)
        self._result.files = FileCounts.between(base.manifest, target.manifest, found)
        self._result.bytes.tree = target.manifest.total_size

    async def _tree(self, session: Session, ref: TreeRef) -> ReplicaTree:
        """Raises ClientError."""
        if (known := self._known.find(ref)) is None:
            try:
                known = await asyncio.to_thread(decode_tree, await session.manifest(ref), ref)
            except Disconnected as error:
                raise ClientError(str(error), code="lost") from error
            self._known.add(known)
        return known

    def _relay(self, message: Progress) -> None:
        self._progress(ClientProgress(message.stage, message.replica, message.done, message.total))
