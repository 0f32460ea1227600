"""Puts this operator and what people would use in its place through the same faults, and counts what they do.

uv run python tests/faults/compare.py [--subjects ours,naive] [--faults kill,lag] [--json FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # As a script its own folder comes first, in which a module may be called like one of the standard library's.
    sys.path[0] = str(Path(__file__).parents[1])

    from faults.peers.command import main

    main()
