"""The command line: each command is a few lines that call one function.

The module of that function is imported inside the command, so that help, completion and `--version` wait
neither for a Kubernetes client nor for the settings.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from typer.core import TyperCommand
from typer.main import get_command

from inference_operator import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inference_operator.settings import Shown
    from inference_operator.validate import Report

FINDINGS = 1
UNUSABLE = 2

app = typer.Typer(
    help="Keeps model endpoints at GPU providers as Kubernetes resources say.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # crashes go to the log, where they are redacted
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the entry of the console script."""
    app(prog_name="inference-operator")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the signature of an option's callback
    if wanted:
        typer.echo(f"inference-operator {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", metavar="", is_eager=True, callback=_print_version, help="Print the version and exit."),
]


@app.callback()
def _root(*, version: Version = False) -> None:
    """Take the options that come before a command; all of them end the process by themselves."""


class RunCommand(TyperCommand):
    """`run`, whose flags are made of the settings once somebody runs it or asks for its help."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Hand over to a command that has the flags."""
        complete = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
        complete.command(help=self.help, epilog=self.epilog)(_with_a_flag_for_each_setting(_run))
        return get_command(complete).make_context(*args, **kwargs)


@app.command(
    cls=RunCommand,
    epilog=(
        "Every flag but --context is also an environment variable: --poll-seconds is "
        "INFERENCE_OPERATOR_POLL_SECONDS; docs/settings.md lists them. Flags win over variables, variables over "
        "defaults. Durations may have fractions.\n\n"
        "Exit codes: 0 stopped by SIGTERM or SIGINT; 1 lost the API server or the lease, restart it; "
        "2 unusable settings."
    ),
)
def run() -> None:
    """Run the operator until it is told to stop."""


def _run(**flags: Any) -> None:
    from inference_operator.environment import load
    from inference_operator.providers.registry import DRIVERS
    from inference_operator.settings import UnusableSettings

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = load(os.environ, given, providers=[driver.name for driver in DRIVERS])
        from inference_operator.app import run as operate

        raise typer.Exit(operate(settings))
    except UnusableSettings as error:
        _complain("Unusable settings:", error.problems)
        raise typer.Exit(UNUSABLE) from None


@app.command(epilog="Exit codes: 0 everything converged, or you ended it; 1 it did not.")
def demo(
    *,
    leave: Annotated[bool, typer.Option("--exit", metavar="", help="End once everything has converged.")] = False,
) -> None:
    """Try it with neither a cluster nor an account: local control plane, emulated providers, sample resources."""
    from inference_operator.playground.demo import run as play

    raise typer.Exit(play(exit_when_done=leave))


@app.command(epilog="Exit codes: 0 printed, written or up to date; 1 --check found a difference.")
def crds(
    *,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Compare the file, and print the difference.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write to. [dim]\\[default: print it; crds with --check][/]"),
    ] = None,
) -> None:
    """Print the custom resource definition, or keep the file that holds it up to date."""
    from inference_operator.api.names import CRD_NAME
    from inference_operator.crdgen import resource
    from inference_operator.providers.registry import DRIVERS

    file = (output or Path("crds")) / f"{CRD_NAME}.yaml"
    if check and not file.is_file():
        _complain("Out of date:", [f"{file} does not exist; write it with crds --output {file.parent}"])
        raise typer.Exit(FINDINGS)
    if check:
        difference = resource.check(file, DRIVERS)
        typer.echo(difference or "", nl=False)
        raise typer.Exit(FINDINGS if difference else 0)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(resource.render(DRIVERS), encoding="utf-8")
    else:
        typer.echo(resource.render(DRIVERS), nl=False)


@app.command(epilog="Exit codes: 0 valid; 1 findings; 2 wrong usage.")
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Manifests; - reads standard input.")],
    *,
    output: Annotated[
        Literal["text", "json", "yaml"],
        typer.Option("-o", "--output", metavar="text|json|yaml", help="How to print the findings."),
    ] = "text",
) -> None:
    """Judge manifests without a cluster, as the API server and the operator would."""
    from inference_operator import validate as judge
    from inference_operator.providers.registry import DRIVERS

    paths = [Path("/dev/stdin") if file == Path("-") else file for file in files]
    report = judge.validate_files(paths, DRIVERS)
    _print_report(report, output)
    raise typer.Exit(0 if report.ok else FINDINGS)


def _with_a_flag_for_each_setting(command: Callable[..., None]) -> Callable[..., None]:
    from inference_operator.settings import Settings, catalogue

    def flagged(**flags: Any) -> None:
        command(**flags)

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_flag(shown, Settings.model_fields[name].annotation),
        )
        for name, shown in catalogue().items()
    ]
    flagged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # functions may have one
    return flagged


def _flag(shown: Shown, kind: Any) -> Any:
    """The annotation of a flag; texts are left to the settings to judge, which word a mistake the same everywhere."""
    taken: Any = str
    if kind is bool or get_origin(kind) is Literal:
        taken = kind
    elif get_origin(kind) in {tuple, Mapping}:
        taken = list[str]
    meaning = f"{escape(shown.meaning.replace('`', ''))} [dim]\\[default: {escape(str(shown.default))}][/]"
    option = typer.Option(
        shown.flag, metavar=shown.metavar, help=meaning, rich_help_panel=shown.group, case_sensitive=False
    )
    return Annotated[taken | None, option]


def _complain(heading: str, problems: Sequence[str]) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(heading, style="bold red"))
    for problem in problems:
        console.print(Text(f"  {problem}"))


def _print_report(report: Report, output: str) -> None:
    if output == "text":
        _print_findings(report)
        return
    findings = [asdict(finding) for finding in report.findings]
    text = json.dumps({"ok": report.ok, "resources": report.resources, "findings": findings}, indent=2)
    typer.echo(text if output == "json" else yaml.safe_dump(json.loads(text), sort_keys=False).rstrip())


def _print_findings(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in report.findings:
        console.print(Text(str(finding), style="red" if finding.severity == "error" else "dim"))
    judged = "1 resource" if report.resources == 1 else f"{report.resources} resources"
    console.print(Text(f"{judged} judged: {'valid' if report.ok else 'not valid'}", style="bold"))
