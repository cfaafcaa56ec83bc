"""The command line ``erlmcp-deploy``: its verbs, and how it says that something went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from starters import control, decisions, github_actions
from starters import status as reading
from starters.audit import app as audit_app
from starters.backtest.command import backtest
from starters.configuration import app as configuration_app
from starters.deploy import deploy
from starters.errors import CommandError, ExitCode
from starters.keys import app as keys_app
from starters.receiver.command import serve
from starters.rendering import clean, console, print_json
from starters.schedules import app as schedules_app


class CommandGroup(TyperGroup):
    """Tells every failure in one way: a sentence and a remedy on stderr, JSON on stdout if asked for."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        try:
            outcome = super().main(
                args=arguments,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except typer.TyperException as error:
            tell_failure(error, as_json="--json" in arguments)
            sys.exit(error.exit_code)
        except typer.Abort:
            sys.exit(ExitCode.INTERRUPTED)
        sys.exit(outcome if isinstance(outcome, int) else ExitCode.OK)


def tell_failure(error: typer.TyperException, *, as_json: bool) -> None:
    """Say what went wrong and what helps; in GitHub Actions as an annotation too."""
    message = error.format_message().strip()
    if not message:  # the help was shown instead
        return
    remedy = error.remedy if isinstance(error, CommandError) else ""
    if as_json:
        print_json(
            {"error": {"message": message, "remedy": remedy or None, "exit_code": int(error.exit_code)}}
        )
    stderr = console(sys.stderr)
    context = getattr(error, "ctx", None)
    if context is not None:
        stderr.print(Text(context.get_usage(), style="dim"), soft_wrap=True)
    stderr.print(Text.assemble(("error ", "bold red"), clean(message)), soft_wrap=True)
    if remedy:
        stderr.print(Text.assemble(("  try ", "bold"), clean(remedy)), soft_wrap=True)
    github_actions.annotate("error", "erlmcp-deploy", f"{message}; {remedy}" if remedy else message)


app = typer.Typer(
    name="erlmcp-deploy",
    cls=CommandGroup,
    help="Durable deployments on Temporal: build, gates, approval, canary, monitoring, roll-back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Deploy": {"deploy": deploy, "rollback": control.rollback},
    "Decide": {
        "pending": reading.pending,
        "approve": decisions.approve,
        "reject": decisions.reject,
        "comment": decisions.comment,
    },
    "Look": {"status": reading.status, "watch": reading.watch, "backtest": backtest},
    "Control": {
        "pause": control.pause,
        "resume": control.resume,
        "promote": control.promote,
        "abort": control.abort,
        "alert": control.alert,
        "freeze": control.freeze,
        "unfreeze": control.unfreeze,
    },
    "Operate": {"serve": serve},
}
for _panel, _verbs in _VERBS.items():
    for _name, _verb in _verbs.items():
        app.command(_name, rich_help_panel=_panel)(_verb)

app.add_typer(audit_app, name="audit", rich_help_panel="Operate")
app.add_typer(configuration_app, name="config", rich_help_panel="Operate")
app.add_typer(keys_app, name="keys", rich_help_panel="Operate")
app.add_typer(schedules_app, name="schedules", rich_help_panel="Operate")


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]", show_default=False)]


@app.command(rich_help_panel="Operate", context_settings=_PASSED_ON, add_help_option=False)
def worker(arguments: Arguments = None) -> None:
    """Run a worker: it carries deployments out. Options as of python -m workers."""
    from workers.__main__ import main  # noqa: PLC0415 - the clients of every outside system

    raise typer.Exit(main(arguments or []))


@app.command(rich_help_panel="Operate", context_settings=_PASSED_ON, add_help_option=False)
def demo(arguments: Arguments = None) -> None:
    """Deploy a sample service in an embedded world: a good release, then a bad one that is rolled back."""
    try:
        from sandbox.demo import main  # noqa: PLC0415 - the sandbox is no part of the product
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the demo needs a package that is not installed: {error.name}",
            remedy="pip install 'erlmcp-deploy[sandbox]'",
        ) from None
    raise typer.Exit(main(arguments or []))
