"""Serves the emulators until SIGTERM or SIGINT: ``python -m inference_operator.playground.emulators --json``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys

from inference_operator.playground.emulators.server import Emulators


async def serve(emulators: Emulators, *, as_json: bool, until_eof: bool) -> None:
    """Serves until a signal arrives; the origins are the first thing on standard output.

    Args:
        emulators: What to serve.
        as_json: Print the origins as one line of JSON.
        until_eof: End when standard input is closed, too.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def look_for_eof() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            stopped.set()

    if until_eof:
        loop.add_reader(sys.stdin, look_for_eof)
    async with emulators:
        if as_json:
            sys.stdout.write(json.dumps(emulators.urls) + "\n")
        else:
            sys.stdout.writelines(f"{name:<10}{url}\n" for name, url in emulators.urls.items())
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="emulators", description="Emulated control APIs of both providers.")
    parser.add_argument("--json", action="store_true", help="print the three origins as one line of JSON")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input is closed, too")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    for name in ("friendli", "novita", "control"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="port to listen on (default: a free one)")
    options = parser.parse_args()
    ports = (options.friendli_port, options.novita_port, options.control_port)
    emulators = Emulators(host=options.host, ports=ports)
    asyncio.run(serve(emulators, as_json=options.json, until_eof=options.until_eof))


if __name__ == "__main__":
    main()
