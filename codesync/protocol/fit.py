"""Makes what a replica or the proxy tells small enough for a message: the newest is kept, the oldest dropped.

Used by whoever composes a report or a state, before `encode`, which only refuses. Texts leave here as valid UTF-8.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from codesync.protocol.codec import size_of
from codesync.protocol.limits import HISTORY, MAX_MESSAGE, RESULTS
from codesync.protocol.values import DeploymentState, HookReport, LastPush, ReplicaReport, ReplicaState

_Any = TypeVar("_Any")
_Item = TypeVar("_Item", str, bytes)
_REPORT_ROOM = 96 * 1024
_STATE_ROOM = 384 * 1024
_DEPLOYMENT_ROOM = MAX_MESSAGE - 32 * 1024
_CRASH_ROOM = 48 * 1024
_LINE = 4096  # characters of a sentence that is only shown
_HOOK_FRAME = 96  # bytes of a hook's report without its texts
_HOOK_LEAST = 192  # bytes in which a hook's report still tells something


def fit_report(report: ReplicaReport, room: int = _REPORT_ROOM) -> ReplicaReport:
    """The report in about `room` bytes: the last lines of the log and of the hooks' outputs, the first paths of the drift."""
    hooks = _fit_hooks(report.hooks, room // 4)
    return replace(
        report,
        log_tail=_last_lines(report.log_tail, room // 2 - sum(map(size_of, hooks))),
        drift=tuple(_newest(report.drift, room // 4)),
        hooks=hooks,
        reason=_clean(report.reason)[: min(_LINE, room // 16)],
    )


def fit_state(state: ReplicaState, room: int = _STATE_ROOM) -> ReplicaState:
    """The state in at most `room` bytes (not less than 8 KiB): old results go first, then old history, then notes.

    Of a crash the last lines of the log are kept.
    """
    crash = state.crash
    state = replace(
        state,
        crash=crash and replace(crash, log_tail=_last_lines(crash.log_tail, min(_CRASH_ROOM, room // 4))),
        results=state.results[-RESULTS:],
        history=state.history[-HISTORY:],
        notes=tuple(_clean(note)[:_LINE] for note in state.notes),
    )
    while size_of(state) > room:
        if state.results:
            state = replace(state, results=_newer_half(state.results))
        elif state.history:
            state = replace(state, history=_newer_half(state.history))
        elif state.notes:
            state = replace(state, notes=_newer_half(state.notes))
        else:
            return replace(state, app={})
    return state


def fit_deployment(deployment: DeploymentState) -> DeploymentState:
    """The deployment as an ide is shown it: without the replicas' results, each replica with its share of a message."""
    share = _DEPLOYMENT_ROOM // max(1, len(deployment.replicas))
    replicas = tuple(fit_state(replace(state, results=()), share) for state in deployment.replicas)
    return replace(deployment, replicas=replicas, last_push=_short(deployment.last_push))


def _short(last: LastPush | None) -> LastPush | None:
    return last and replace(last, description=last.description[:_LINE], source=last.source[:_LINE])


def _fit_hooks(hooks: tuple[HookReport, ...], room: int) -> tuple[HookReport, ...]:
    """The hooks' reports in `room` bytes: where that is too little for all, the last of them.

    Those that need less than their share leave the rest of it to the others.
    """
    hooks = tuple(_fit_hook(hook, room) for hook in hooks[-max(1, room // _HOOK_LEAST) :])
    share = room // max(1, len(hooks))
    sizes = [size_of(hook) for hook in hooks]
    small = [size for size in sizes if size <= share]
    if len(small) < len(hooks):
        share = (room - sum(small)) // (len(hooks) - len(small))
    return tuple(
        hook if size <= share else _fit_hook(hook, share) for hook, size in zip(hooks, sizes, strict=True)
    )


def _fit_hook(hook: HookReport, room: int) -> HookReport:
    run, reason = _cut(hook.run, room // 4), _cut(hook.reason, room // 4)
    left = room - _HOOK_FRAME - len(run.encode()) - len(reason.encode())
    return replace(hook, run=run, reason=reason, output=_last_lines(hook.output, left))


def _last_lines(lines: tuple[str, ...], room: int) -> tuple[str, ...]:
    """The last of `lines` that fit into `room` bytes together."""
    return tuple(reversed(_newest(map(_clean, reversed(lines)), room)))


def _newer_half(items: tuple[_Any, ...]) -> tuple[_Any, ...]:
    return items[(len(items) + 1) // 2 :]


def _newest(items: Iterable[_Item], room: int) -> list[_Item]:
    """The first of `items` that fit into `room` bytes together."""
    taken: list[_Item] = []
    for item in items:
        room -= 8 + (len(item.encode()) if isinstance(item, str) else len(item))
        if room < 0:
            break
        taken.append(item)
    return taken


def _cut(text: str, size: int) -> str:
    """The beginning of the text in at most `size` bytes."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
