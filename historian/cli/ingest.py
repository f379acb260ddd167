"""`historian ingest`: long-running workers that take samples from MQTT, Sparkplug B, OPC UA or a folder, and bring them to a historian, whatever fails in between."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.interruptible import run_interruptible
from historian.schema.errors import BadInput

if TYPE_CHECKING:
    from historian.ingest.sources.source import Source
    from historian.ingest.worker.config import Configuration, WorkerConfig
    from historian.ingest.worker.upstream import Upstream
    from historian.ingest.worker.worker import Worker

log = logging.getLogger("historian.ingest")

app = typer.Typer(
    no_args_is_help=True,
    help="Long-running ingest workers: MQTT, Sparkplug B, OPC UA, files dropped into a folder.",
    epilog="docs/ingest describes the configuration of each, and how to run a worker for years.",
)

#: what a clock that is wrong makes: live sources bring nothing from far ahead, files may
_LIVE_FUTURE_S = 3600.0

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help=r"Configuration: \[worker], the table of the source, and filters.")]
Url = Annotated[str | None, typer.Option(help="The historian server to deliver to.", show_default="HISTORIAN_URL, or the local one")]
Dsn = Annotated[str | None, typer.Option(help="Write into this database instead, without a server in between.")]
Directory = Annotated[
    Path | None,
    typer.Option("--spool", metavar="DIR", help="The worker's directory: spool, dead letters, state.", show_default="by producer"),
]
StatusPort = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Serve /healthz, /readyz and /metrics here, on loopback; 0 takes a free port.")
]
ReadyFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help='Write {"url", "pid"} as JSON here once the worker runs: url is its status.')
]
Check = Annotated[bool, typer.Option("--check", help="Only check the configuration.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]


def _epilog(kind: str, example: str) -> str:
    return f"""[bold]Examples[/bold]

historian ingest {kind} {example}                    to the local server

historian ingest {kind} {example} --check            is the configuration right?

historian ingest {kind} {example} --url https://historian.plant.example --status-port 9400

historian spool status DIR                           what waits while the server is away
"""


@app.command("mqtt", epilog=_epilog("mqtt", "line1.toml"))
def mqtt(
    config: ConfigFile,
    url: Url = None,
    dsn: Dsn = None,
    spool: Directory = None,
    status_port: StatusPort = None,
    ready_file: ReadyFile = None,
    check: Check = False,
    verbose: Verbose = False,
) -> None:
    """Take samples from an MQTT broker: a UNS topic tree, mapped to tags by rules."""
    _run("mqtt", config, url, dsn, spool, status_port, ready_file, check, verbose)


@app.command("sparkplug", epilog=_epilog("sparkplug", "plant.toml"))
def sparkplug(
    config: ConfigFile,
    url: Url = None,
    dsn: Dsn = None,
    spool: Directory = None,
    status_port: StatusPort = None,
    ready_file: ReadyFile = None,
    check: Check = False,
    verbose: Verbose = False,
) -> None:
    """Take samples from Sparkplug B edge nodes on an MQTT broker."""
    _run("sparkplug", config, url, dsn, spool, status_port, ready_file, check, verbose)


@app.command(
    "opcua", epilog=_epilog("opcua", "plc.toml") + "\nhistorian ingest opcua plc.toml --browse             which nodes would be taken?\n"
)
def opcua(
    config: ConfigFile,
    url: Url = None,
    dsn: Dsn = None,
    spool: Directory = None,
    status_port: StatusPort = None,
    ready_file: ReadyFile = None,
    check: Check = False,
    browse: Annotated[bool, typer.Option("--browse", help="Show the nodes that would be taken, and end.")] = False,
    verbose: Verbose = False,
) -> None:
    """Take samples from an OPC UA server: subscriptions, and its history of the time that the worker was away."""
    if browse:
        _browse(config)
        return
    _run("opcua", config, url, dsn, spool, status_port, ready_file, check, verbose)


@app.command("folder", epilog=_epilog("folder", "drop.toml"))
def folder(
    config: ConfigFile,
    url: Url = None,
    dsn: Dsn = None,
    spool: Directory = None,
    status_port: StatusPort = None,
    ready_file: ReadyFile = None,
    check: Check = False,
    verbose: Verbose = False,
) -> None:
    """Take CSV, Parquet and Arrow files that are dropped into a folder, each once."""
    _run("folder", config, url, dsn, spool, status_port, ready_file, check, verbose)


#: of each kind: its module, its configuration, its source, and the extra that it needs
_KINDS = {
    "mqtt": ("historian.ingest.sources.mqtt", "MqttConfig", "MqttSource", "mqtt"),
    "sparkplug": ("historian.ingest.sources.sparkplug", "SparkplugConfig", "SparkplugSource", "mqtt"),
    "opcua": ("historian.ingest.sources.opcua", "OpcuaConfig", "OpcuaSource", "opcua"),
    "folder": ("historian.ingest.sources.folder", "FolderConfig", "FolderSource", ""),
}


def _module(kind: str) -> Any:
    name, _, _, extra = _KINDS[kind]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("historian"):
            raise
        raise BadInput(f"historian ingest {kind} needs {error.name}, which is not installed: pip install 'historian[{extra}]'") from None


def _source_config(kind: str, configuration: Configuration) -> Any:
    from historian.ingest.worker.config import checked

    return checked(getattr(_module(kind), _KINDS[kind][1]), configuration.source, f"{configuration.path}: {kind}")


def _load(kind: str, path: Path, given: dict[str, Any]) -> tuple[Configuration, Source]:
    """Raises BadInput."""
    from dataclasses import replace

    from historian.ingest.worker.config import load

    configuration = load(path, kind, given)
    if kind != "folder" and "max_future_s" not in configuration.worker.model_fields_set:
        worker = configuration.worker.model_copy(update={"max_future_s": _LIVE_FUTURE_S})
        configuration = replace(configuration, worker=worker)
    source: Source = getattr(_module(kind), _KINDS[kind][2])(_source_config(kind, configuration))
    return configuration, source


def _upstream(config: WorkerConfig, instance: str) -> Upstream:
    if config.dsn is not None:
        from historian.ingest.worker.database import DatabaseUpstream

        return DatabaseUpstream(config.dsn.get_secret_value(), config.producer, instance=instance, patience_s=config.spool_after_s)
    from historian.client.ingest import IngestLink

    token = config.token.get_secret_value() if config.token is not None else None
    if config.token_file is not None:
        try:
            token = config.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadInput(f"token_file {config.token_file}: {error.strerror or error}") from None
    ack_s = max(5.0, 2 * config.spool_after_s)
    return IngestLink(config.url, config.producer, token=token, instance=instance, retry_s=config.spool_after_s, ack_s=ack_s)


def _run(
    kind: str,
    path: Path,
    url: str | None,
    dsn: str | None,
    directory: Path | None,
    status_port: int | None,
    ready_file: Path | None,
    check: bool,
    verbose: bool,
) -> None:
    if url is not None and dsn is not None:
        raise typer.BadParameter("--url (a server) and --dsn (a database) exclude each other")
    from historian.frugal import be_frugal

    be_frugal()
    given = {"url": url, "dsn": dsn, "directory": directory, "status_port": status_port}
    configuration, source = _load(kind, path, given)
    worker_config = configuration.worker
    if check:
        typer.echo(f"{path} is a good configuration for producer {worker_config.producer!r}")
        return
    from historian.ingest.worker.worker import Worker

    where = worker_config.directory or _default_directory(worker_config.producer)
    where.mkdir(parents=True, exist_ok=True)
    worker = Worker(worker_config, where, source, lambda instance: _upstream(worker_config, instance), configuration.filters)
    raise typer.Exit(_serve(worker, kind, worker_config, where, ready_file, verbose))


def _default_directory(producer: str) -> Path:
    """One for each producer of this user, whatever characters its name has."""
    from urllib.parse import quote

    import platformdirs

    return Path(platformdirs.user_state_dir("historian")) / "workers" / quote(producer, safe="")[:200]


def _serve(worker: Worker, kind: str, config: WorkerConfig, where: Path, ready_file: Path | None, verbose: bool) -> int:
    """Run it until SIGINT or SIGTERM. Returns the exit code; raises HistorianError if it cannot start or go on."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for noisy in ("asyncio", "aiohttp", "asyncpg"):
        logging.getLogger(noisy).setLevel(logging.WARNING if noisy != "asyncpg" else logging.ERROR)
    try:
        import uvloop
    except ImportError:  # not on Windows
        factory = None
    else:
        factory = uvloop.new_event_loop

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def on_signal() -> None:
            if stop.is_set():
                task.cancel()
            else:
                print("stopping …", file=sys.stderr, flush=True)
                stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)

        def started(running: Worker) -> None:
            upstream = "its database" if config.dsn is not None else (config.url or "the local server")
            print(f"{kind} worker {config.producer!r} delivers to {upstream}, keeps {where}", flush=True)
            if running.status_url:
                print(f"status on {running.status_url}/readyz", flush=True)
            if ready_file is not None:
                _write_ready(ready_file, running.status_url)

        try:
            await worker.run(stop, started)
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)  # noqa: ASYNC240 - at the end, when nobody waits

    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    except asyncio.CancelledError:
        return 130
    return 0


def _write_ready(path: Path, url: str) -> None:
    import orjson

    # whoever waits for the file must never read half of it
    part = path.with_name(path.name + ".part")
    part.write_bytes(orjson.dumps({"url": url, "pid": os.getpid()}))
    part.replace(path)


def _browse(path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from historian.ingest.worker.config import load

    configuration = load(path, "opcua", {})
    found = run_interruptible(_module("opcua").browse(_source_config("opcua", configuration)))
    if not found:
        typer.echo(f"no node: look at root, include and exclude of [[opcua.browse]] in {path}; without them every variable is shown")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("tag", "node", "type", "kind", "access", "history"):
        table.add_column(name)
    for node in found:
        table.add_row(
            node.path, node.node_id, node.data_type, node.kind or "none", ", ".join(node.access), "yes" if node.historizing else "no"
        )
    Console().print(table)
    typer.echo(f"{len(found)} nodes, {sum(node.kind is not None for node in found)} of them can be tags")
