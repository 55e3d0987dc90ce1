"""How a command starts and ends: TensorFlow starts silently, and errors and interruptions are reported in one line."""

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

import rich.console
import rich.markup
import typer


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, so that it is handled like Ctrl-C."""


def start_tensorflow(verbose: bool = False):
    """Imports TensorFlow and looks for devices, while the remarks of its libraries about the machine are kept back.

    Each start prints some eight lines, about CUDA for example, which do not concern the user of a command. They go to
    the standard error stream of the process, so it is redirected for this time. If TensorFlow cannot be imported, they
    are printed; if it aborts the process, the place is printed, and `verbose` shows what it said.

    Args:
      verbose: Whether to print them in any case.
    """
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # later on, only errors
    with contextlib.nullcontext() if verbose else _kept_back():
        tensorflow = importlib.import_module("tensorflow")
        if os.environ.get("TF_CONFIG"):  # with it, TensorFlow wants to hear of the other workers first
            importlib.import_module("tfp_hybrid.commands.distribution").strategy()
        tensorflow.config.list_logical_devices()
        for name in ("registered", "commands"):  # the console script has not imported them with the package
            importlib.import_module(f"tfp_hybrid.{name}")


@contextlib.contextmanager
def _kept_back():
    """A context in which what the process writes to its standard error stream is kept, and written after an error."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    watch = not faulthandler.is_enabled()
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            if watch:
                faulthandler.enable(before)
            yield
        except Exception:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            if watch:
                faulthandler.disable()
            os.dup2(before, 2)
            os.close(before)


@contextlib.contextmanager
def errors(how_to_continue: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Reports errors in one line on the standard error stream, and exits with status 1.

    After an interruption, the exit status is 130 (SIGINT) or 143 (SIGTERM).

    Args:
      how_to_continue: A function that returns instructions to print after an interruption.
    """
    console = rich.console.Console(stderr=True)
    try:
        with _sigterm_raised():
            yield
    except KeyboardInterrupt as signal_received:
        terminated = isinstance(signal_received, _Terminated)
        message = f"{'Terminated' if terminated else 'Interrupted'}. {how_to_continue()}"
        console.print(rich.markup.escape(message.strip()), soft_wrap=True, highlight=False)
        raise typer.Exit(143 if terminated else 130) from None
    except (ValueError, ConnectionError, FloatingPointError, ImportError, OSError) as error:
        console.print(f"[bold red]Error:[/] {rich.markup.escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def _sigterm_raised():
    """A context in which SIGTERM raises `_Terminated` in the main thread."""

    def terminate(number, frame):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
