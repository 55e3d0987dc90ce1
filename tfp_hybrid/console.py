"""How a command ends: a user's mistakes as one line, and signals that save before they end the process."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import rich.console
import rich.markup
import typer


class _Terminated(KeyboardInterrupt):
    """SIGTERM; like Ctrl-C, it saves what it interrupts."""


@contextlib.contextmanager
def errors(how_to_continue: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Prints a user's mistakes as one line on the error stream, with exit status 1; signals with 130 and 143.

    Args:
      how_to_continue: returns what to say after an interruption.
    """
    console = rich.console.Console(stderr=True)
    try:
        with _sigterm_raised():
            yield
    except KeyboardInterrupt as signal_received:
        terminated = isinstance(signal_received, _Terminated)
        said = f"{'Terminated' if terminated else 'Interrupted'}. {how_to_continue()}"
        console.print(rich.markup.escape(said.strip()), soft_wrap=True, highlight=False)
        raise typer.Exit(143 if terminated else 130) from None
    except (ValueError, ConnectionError, FloatingPointError, ImportError, OSError) as error:
        console.print(f"[bold red]Error:[/] {rich.markup.escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def _sigterm_raised():
    """Raises `_Terminated` in the main thread on SIGTERM."""

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
