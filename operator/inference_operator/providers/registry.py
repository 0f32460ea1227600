"""Which providers there are; a new one is a folder of its own and a line in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference_operator.providers import friendli, novita

if TYPE_CHECKING:
    from inference_operator.core.port import Driver

DRIVERS: tuple[Driver, ...] = (friendli.DRIVER, novita.DRIVER)
"""In the order in which the custom resource lists them."""
