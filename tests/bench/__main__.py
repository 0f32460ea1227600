"""Measures this operator beside bare loops and what people would use in its place, all in one run.

uv run --no-sync --directory tests python -m bench [--subjects floor,ours] [--phases edit] [--blocks N] [--json FILE]

The usual phases take half a minute to a minute for each subject and block, and half an hour more for those that take
part once. The others take longer and need fewer blocks; they may be runs of their own, of which `bench.page` makes one
page together. An interrupt or SIGTERM ends everything that was started; a killed run leaves its processes behind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.contestants import ONCE, SUBJECTS
from bench.contestants import USUAL as USUAL_SUBJECTS
from bench.figures import objections_to
from bench.page import table
from bench.phases import PHASES, Phase
from bench.phases import USUAL as USUAL_PHASES
from bench.quota import NoControlGroupsError
from bench.record import OTHERS
from bench.running import conducted, conducted_side_by_side
from bench.turns import Plan
from faults.peers.command import chosen

COMMAND = "uv run --directory tests python -m bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from a command line; the exit code is 1 for a run that is void."""
    options = (parser := _parser()).parse_args(arguments)
    chosen_phases = [phase for phase in PHASES if phase in options.phases]
    options.once = _once(options)
    if strangers := set(options.once) - set(options.subjects):
        parser.error(f"--once is for subjects that take part: not {sorted(strangers)}")
    if options.side_by_side:
        options.others = 1.0
        if options.once:
            parser.error("--once means nothing side by side: each subject has a run of its own there")
        if unfit := [phase for phase in chosen_phases if not _fits_side_by_side(PHASES[phase], options.subjects)]:
            parser.error(f"only phases without edits, and that are for every subject, run side by side: not {unfit}")
    for phase in chosen_phases:
        try:
            if (check := PHASES[phase].check) is not None:
                check()
        except NoControlGroupsError as error:
            parser.error(f"{phase}: {error}")
    plan = Plan(
        options.subjects,
        chosen_phases,
        options.blocks,
        options.seed,
        options.scale,
        options.watch,
        options.others,
        options.once,
    )
    try:
        if options.side_by_side:
            run = conducted_side_by_side(plan, f"{_command(plan)} --side-by-side", options.json)
        else:
            run = conducted(plan, _command(plan), options.json)
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(table(run))
    return 1 if objections_to(run) else 0


def _once(options: argparse.Namespace) -> list[str]:
    """Who takes part once, where nobody has said so: only the usual subjects have a usual choice."""
    usual = options.subjects == list(USUAL_SUBJECTS) and not options.side_by_side
    given: list[str] | None = options.once
    return (list(ONCE) if usual else []) if given is None else given


def _fits_side_by_side(phase: Phase, subjects: Sequence[str]) -> bool:
    return phase.control is None and all(phase.is_for(subject) for subject in subjects)


def _command(plan: Plan) -> str:
    """What repeats the run; where the results are kept is nobody's business."""
    flags = {"subjects": ",".join(plan.subjects), "phases": ",".join(plan.phases), "blocks": plan.blocks}
    flags |= {"seed": plan.seed, "scale": plan.scale, "watch": plan.watched, "others": plan.others}
    flags["once"] = ",".join(plan.once)
    usual = {"scale": 1.0, "watch": None, "others": OTHERS, "once": ""}
    given = {name: value for name, value in flags.items() if name not in usual or value != usual[name]}
    return " ".join([COMMAND, *(f"--{name} {value}" for name, value in given.items())])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure this operator beside others, in one run.")
    some = {"subjects": (SUBJECTS, USUAL_SUBJECTS), "phases": (PHASES, USUAL_PHASES)}
    for word, (known, usual) in some.items():
        names = f"comma separated, of {', '.join(known)}; usually {','.join(usual)}"
        parser.add_argument(f"--{word}", type=chosen(known), default=list(usual), help=names)
    once = f"of the subjects, those that have turns in the first block alone; of the usual ones {','.join(ONCE)}"
    parser.add_argument("--once", type=chosen(SUBJECTS), help=once)
    parser.add_argument("--blocks", type=int, default=10, help="how often everybody has a turn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=6, help="decides orders, moments and delays (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="what the numbers of resources are multiplied by")
    tolerated = "share of the machine that others may use before a turn is dropped (default: %(default)s)"
    parser.add_argument("--others", type=float, default=OTHERS, metavar="SHARE", help=tolerated)
    beside = "all subjects at the same time, each with a cluster of its own: for counts and processor time only"
    parser.add_argument("--side-by-side", action="store_true", help=beside)
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="how long resources at rest are watched")
    parser.add_argument("--json", type=Path, help="where the raw samples and counts are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
