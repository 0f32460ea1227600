"""`python -m inference_operator` is the console script."""

from __future__ import annotations

from inference_operator.cli import main

if __name__ == "__main__":
    main()
