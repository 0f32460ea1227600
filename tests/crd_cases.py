"""Resources that the API server must take, and ones that it must refuse with a word of help.

Used twice: for the verdict without a cluster, and against a real API server, which must agree.
"""

from __future__ import annotations

from pathlib import Path

from crd_case import Bad
from crd_cases_neutral import NEUTRAL, SCALING
from crd_cases_vendor import FRIENDLI, NOVITA

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.yaml"))

BAD: tuple[Bad, ...] = (*NEUTRAL, *SCALING, *FRIENDLI, *NOVITA)

SCALARS = (
    *("y", "Y", "n", "N", "yes", "No", "on", "OFF", "true", "True", "FALSE", "tRue", "~", "null", "Null", "NULL", ""),
    *("0", "-0", "+1", "1", "00", "07", "08", "0o7", "0b11", "0x1F", "-0x1F", "0x", "1_000", "1__0", "0_", "_1"),
    *("1.", ".5", "-.5", "0.0", "1.5", "1_0.5", "1e3", "1e+3", "1.5e1", "1e-1", "1e999", "12:30", "2001-01-01"),
    *("2001-01-01T00:00:00Z", "=", "<<", "!!str 1", "!!int '3'", "!!bool 'y'", "!other x", "'1'", '"true"', "a b"),
    *("12345678901234567890", "99999999999999999999999", "0o8", "1e", "+", "-", ".", "..", "1.2.3", "0b12", "+.5"),
)
"""Texts whose type in YAML is easy to get wrong."""
