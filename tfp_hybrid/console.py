"""`errors`: how a command reports errors and interruptions."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import rich.console
import rich.markup
import typer


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, so that it is handled like Ctrl-C."""


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
