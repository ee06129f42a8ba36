"""The work of `byokctl sign`: many files at once, each whole or not at all, all called off by Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from byok_api.errors import Reason, Refusal
from byok_client.aio import AsyncSignerClient
from byok_client.cli.exits import Exit, worst
from byok_client.cli.metadata_arguments import metadata_of
from byok_client.cli.output import Line, Report, remedy_lines
from byok_client.cli.refusals import exit_of, explain
from byok_client.cli.signing_plan import Task, plan
from byok_client.settings import ClientSettings
from byok_client.signing import SigningResult
from byok_client.verification import Verdict


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    paths: Sequence[Path]
    recipe: str
    output: str | None
    """None signs in place; a slash at its end makes it a folder."""
    metadata: Sequence[str]
    metadata_file: Path | None
    jobs: int
    skip_signed: bool
    overwrite: bool
    allow_invalid_input: bool
    timeout: float


@dataclass(frozen=True)
class _Done:
    task: Task
    result: SigningResult | None = None
    refusal: Refusal | None = None
    interrupted: bool = False

    @property
    def state(self) -> str:
        if self.interrupted:
            return "interrupted"
        if self.refusal is not None:
            return "failed"
        return "signed" if self.result is not None else "skipped"


def sign(request: Request) -> Report:
    """Sign all that is asked for; Refusal if nothing can be signed at all."""
    metadata = metadata_of(request.metadata, request.metadata_file)
    tasks = plan(request.paths, request.output)
    settings = replace(ClientSettings.from_environment(), timeout=request.timeout)
    batch = _Batch(request, metadata, tasks)
    if not tasks:
        where = ", ".join(map(str, request.paths))
        return Report(_summary([]), [Line(f"nothing to sign: no file of a type that can be signed is in {where}")])
    ended_by = asyncio.run(_sign_all(batch, settings))
    return _report(batch.done, ended_by)


class _Batch:
    """What is to be signed, and what has come of it so far."""

    def __init__(self, request: Request, metadata: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        self.request = request
        self.tasks = tasks
        self._metadata = metadata
        self._waiting = iter(tasks)
        self._done: dict[Task, _Done] = {}
        self._stopped = False

    @property
    def done(self) -> list[_Done]:
        """What came of each task, in order; what was not come to is interrupted."""
        return [self._done.get(task, _Done(task, interrupted=True)) for task in self.tasks]

    async def work(self, client: AsyncSignerClient, advance: Callable[[], None]) -> None:
        """Sign one after the other until none is left; several may do so at once."""
        with suppress(asyncio.CancelledError):
            for task in self._waiting:
                self._done[task] = await self._sign(client, task)
                advance()

    def stop(self, client: AsyncSignerClient) -> None:
        """Begin no other file, and call off what is under way."""
        self._stopped = True
        client.call_off()

    async def _sign(self, client: AsyncSignerClient, task: Task) -> _Done:
        request = self.request
        try:
            if request.skip_signed and (await client.verify(task.source)).state is not Verdict.UNSIGNED:
                return _Done(task)
            if self._stopped:
                raise asyncio.CancelledError
            if task.output is not None:
                _make_folder(task.output.parent)
            result = await client.sign(
                task.source,
                recipe=request.recipe,
                metadata=self._metadata,
                output=task.output,
                overwrite=request.overwrite,
                allow_invalid_input=request.allow_invalid_input,
            )
        except Refusal as refusal:
            return _Done(task, refusal=refusal)
        return _Done(task, result)


async def _sign_all(batch: _Batch, settings: ClientSettings) -> Exit | None:
    """Sign, and say which signal ended it, if one did: Ctrl-C, or SIGTERM as Kubernetes sends it."""
    ended_by: list[Exit] = []
    this = asyncio.current_task()

    def end(by: Exit) -> None:
        ended_by.append(by)
        if this is not None and len(ended_by) == 1:
            this.cancel()

    with _heeding(end):
        try:
            async with AsyncSignerClient(settings) as client:
                await _sign_with(client, batch)
        except asyncio.CancelledError:
            if not ended_by:
                raise
    return ended_by[0] if ended_by else None


async def _sign_with(client: AsyncSignerClient, batch: _Batch) -> None:
    # Asked for once beforehand: what stands in the way of every file is one error.
    await client.recipe(batch.request.recipe)
    with _progress(len(batch.tasks)) as advance:
        workers = [asyncio.create_task(batch.work(client, advance)) for _ in range(batch.request.jobs)]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            # What is past calling off ends well and is reported as signed; the rest leaves nothing behind.
            batch.stop(client)
            await asyncio.wait(workers)
        for worker in workers:
            worker.result()


@contextmanager
def _heeding(end: Callable[[Exit], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
    for number, status in signals.items():
        loop.add_signal_handler(number, end, status)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(Reason.OutputUnwritable, f"{folder}: cannot be made: {error.strerror}") from error


class _Progress:
    def __init__(self, total: int) -> None:
        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("signing", total=total)

    def __enter__(self) -> Callable[[], None]:
        self._bar.start()
        return lambda: self._bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _progress(total: int) -> AbstractContextManager[Callable[[], None]]:
    if total > 1 and sys.stderr.isatty():
        return _Progress(total)
    return nullcontext(lambda: None)


def _report(done: Sequence[_Done], ended_by: Exit | None) -> Report:
    document = _summary(done)
    counts = document["summary"]
    exits = [exit_of(item.refusal) for item in done if item.refusal is not None]
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    # What failed stands last, where it is seen.
    text = [line for item in sorted(done, key=lambda item: item.state == "failed") for line in _lines(item)]
    return Report(
        document,
        [*text, Line(summary)] if len(done) > 1 else text,
        ended_by if ended_by and counts["interrupted"] else worst(exits),
    )


def _summary(done: Sequence[_Done]) -> dict[str, Any]:
    counts = dict.fromkeys(("signed", "skipped", "failed", "interrupted"), 0)
    for item in done:
        counts[item.state] += 1
    return {"files": [_document(item) for item in done], "summary": counts}


def _document(item: _Done) -> dict[str, Any]:
    document: dict[str, Any] = {"source": str(item.task.source), "state": item.state}
    if item.result is not None:
        document |= {_camel(name): value for name, value in asdict(item.result).items()}
    if item.refusal is not None:
        document["error"] = explain(item.refusal)
    return document


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _lines(item: _Done) -> list[Line]:
    if item.result is not None:
        result = item.result
        made = f"{result.algorithm} {result.key} {result.recipe} audit {result.audit_id}"
        return [Line(f"signed {item.task.source} -> {result.output}: {made}", "green")]
    if item.refusal is not None:
        refusal = item.refusal
        return [
            Line(f"failed {item.task.source}: {refusal.reason.name}: {refusal.message}", "red"),
            *remedy_lines(refusal.message, refusal.reason.facts.remedy),
        ]
    return [Line(f"{item.state} {item.task.source}", "yellow")]
