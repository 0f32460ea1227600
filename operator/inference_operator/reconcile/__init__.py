"""One pass: look, decide, perhaps send one update, report. Reaches the outside through `core/port.py` alone.

`reconciler` is the order of the steps, `resolve` reads what is wished, `look` reads what is, `send` carries
one write out, `bind` tells applications where the endpoint is, `publish` writes the status; `sweeps` tells of many
endpoints at once that nothing has moved.
"""

from inference_operator.reconcile.reconciler import Reconciler
from inference_operator.reconcile.sweeps import Sweeps
from inference_operator.reconcile.work import Clock, Options

__all__ = ["Clock", "Options", "Reconciler", "Sweeps"]
