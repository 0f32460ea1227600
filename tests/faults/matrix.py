"""The fault matrix: what may befall an operator of endpoints at a provider, and what must hold all the same.

A test names the rows that it shows to hold with ``@pytest.mark.covers("A3")``; `LEFT_OUT` names the rest, with the
reason. `docs/reliability.md` is made from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, and what must hold after it."""

    fault: str
    holds: str


GROUPS: Mapping[str, str] = {
    "A": "The operator's process",
    "B": "The way to the provider",
    "C": "What the provider does and says",
    "D": "The Kubernetes API",
    "E": "Concurrency and identity",
    "F": "Secrets",
    "G": "Deletion and lifecycle",
    "H": "The machine",
}

ROWS: Mapping[str, Row] = {
    "A1": Row("killed before the intent is stored", "one version per change"),
    "A2": Row("killed between the stored intent and the update", "the change is not lost: one update, after settling"),
    "A3": Row("killed after the provider's commit, before its answer", "no second update; Synced without help"),
    "A4": Row("killed after the answer, before the result is stored", "no second update; Synced without help"),
    "A5": Row("killed after the result is stored", "no further write of any kind"),
    "A6": Row("killed while a resource is deleted", "the resource goes away; the endpoint is left as it is"),
    "A7": Row("SIGTERM with an update under way", "it is finished or left undecided; exit code 0; Lease released"),
    "A8": Row("a crash loop while people edit", "never a version too many, never an older spec after a newer one"),
    "A9": Row("a second crash during recovery", "as after the first"),
    "A10": Row("killed for want of memory", "as A3; nothing that a provider sends makes memory grow"),
    "A11": Row("frozen for longer than its claim and Lease", "it aborts when it goes on; the window is counted"),
    "A12": Row("restart beside 1,000 resources in sync", "0 updates, 0 Kubernetes writes, reads within the budget"),
    "A13": Row("upgrade over stored state", "0 updates; older status is understood"),
    "B1": Row("the answer is lost after the commit", "reading decides; no second update"),
    "B2": Row("the request is lost before the commit", "sent once more after settling; one version"),
    "B3": Row("time-out, and the commit lands later", "no second update for any delay up to the settle time"),
    "B4": Row("refused, swallowed, name not found", "a condition that says so; backoff; others go on"),
    "B5": Row("a certificate that does not fit", "no token is sent; a condition that says so"),
    "B6": Row("an answer that trickles", "one deadline for the whole call; the loop stays free"),
    "B7": Row("huge, endless or compressed bodies", "reading stops at a bound; memory stays flat"),
    "B8": Row("malformed JSON of all kinds", "after a write undecided, on a read tried again; others go on"),
    "B9": Row("a 2xx that is not the documented object", "after a write: undecided, neither success nor failure"),
    "B10": Row("redirects of all kinds", "never followed; the token goes nowhere else"),
    "B11": Row("a kept-alive connection dropped as the update is sent", "no library repeats it; undecided"),
    "B12": Row("interim and early answers, trailers", "others go on; an unclear answer is undecided"),
    "B13": Row("proxy variables and netrc in the environment", "ignored; only the setting counts"),
    "C1": Row("429 with any kind of Retry-After", "waits at least so long; the credential pauses, not the operator"),
    "C2": Row("5xx with and without a commit behind it", "each is undecided until a look decides"),
    "C3": Row("400 and 422", "stalled until spec or Secret change, slow tries; the text is cleaned and cut"),
    "C4": Row("401 and 403", "stalled until the Secret changes; never taken for a deletion"),
    "C5": Row("the endpoint is deleted elsewhere", "one condition; nothing is made anew"),
    "C6": Row("an update refused because the provider is at work", "looks, waits, sends once"),
    "C7": Row("a visible field is changed elsewhere", "Report: 0 updates; Correct: one, and a cooldown"),
    "C8": Row("an invisible field is changed elsewhere", "reported by its version; no blind update"),
    "C9": Row("a foreign version between our look and our update", "not taken for ours"),
    "C10": Row("reads that lag behind our commit", "no second update"),
    "C11": Row("a rollout that fails or is rolled back", "reported; the same payload is not sent again"),
    "C12": Row("version history in pages, out of order, cut short, empty", "compared as numbers, or unreadable"),
    "C13": Row("unknown words, fields more or fewer, other types", "tolerated; no update from a change of type"),
    "C14": Row("the provider is away and back, 1,000 resources", "the rate stays within its budget; all converge"),
    "C15": Row("one credential limited, another not", "the other does not notice"),
    "C16": Row("the provider settles another value than sent", "sent once; a condition names the field"),
    "C17": Row("200, and nothing has changed", "found out by reading; not sent for ever"),
    "D1": Row("the API server restarts", "what was under way is decided by looking; the watch resumes"),
    "D2": Row("etcd stands still: reads work, writes do not", "no update without a stored intent"),
    "D3": Row("a watch is cut, also in the middle of a line", "nothing is missed"),
    "D4": Row("a watch falls silent with the connection open", "noticed within a bound"),
    "D5": Row("410 in the stream and as an HTTP status", "listed anew; 0 updates"),
    "D6": Row("an older list after a newer one", "no act on an older spec than one applied"),
    "D7": Row("events that never come", "the final state decides"),
    "D8": Row("409 and 422 on our write", "decided anew; nothing is sent in between"),
    "D9": Row("our write is stored, its answer lost", "nothing is sent on an intent that is not known to be stored"),
    "D10": Row("429 from the API server", "its Retry-After is kept; the loop lives"),
    "D11": Row("401 and 403 from the API server", "the token file is read anew; a condition, no crash"),
    "D12": Row("the CRD is absent, deleted, restored", "waits; no endpoint is touched"),
    "D13": Row("the CRD is upgraded", "0 updates"),
    "D14": Row("the API server refuses or prunes our status", "nothing is sent"),
    "D15": Row("a watch error that is not 410", "the process comes back and converges"),
    "D16": Row("longest names, most labels, largest objects", "status does not grow with the spec's history"),
    "E1": Row("two active replicas", "one version per change"),
    "E2": Row("wall clocks that are wrong, jump or differ", "no version, no early try, no endless sleep"),
    "E3": Row("old and new replica overlap in a rolling update", "one version per change"),
    "E4": Row("two resources name one endpoint", "the oldest writes, the other says Conflict; handover after settling"),
    "E5": Row("the spec is edited while an update is under way", "the result counts for its generation; then one more"),
    "E6": Row("edits faster than the operator, and back again", "at most one version each; the last one wins"),
    "E7": Row("status erased or forged", "no update of another's endpoint; settled by reading"),
    "E8": Row("recreated by the same name with a write under way", "the new object does not get the old result"),
    "E9": Row("another endpoint id in the spec", "the API server refuses it"),
    "E10": Row("foreign finalizers, owners, field managers", "untouched"),
    "E11": Row("restored from a backup with an old status", "read first; nothing is sent for the restore alone"),
    "F1": Row("the Secret comes later than the resource", "waits, and goes on when it is there"),
    "F2": Row("the Secret is deleted with an update under way", "undecided until readable; then decided"),
    "F3": Row("the Secret is rotated with an update under way", "the new key decides"),
    "F4": Row("an empty or blank key", "stalled; no request"),
    "F5": Row("spaces or a line end behind the key", "stripped; works"),
    "F6": Row("a key that is no header value", "refused before any library sees it; not shown"),
    "F7": Row("the wrong key of a Secret", "a condition that names it"),
    "F8": Row("a reference to another namespace", "the API server refuses it"),
    "F9": Row("RBAC denies the Secret", "a condition; others go on"),
    "F10": Row("a key of another account: the endpoint looks missing", "not taken for deleted"),
    "G1": Row("deleted while the provider is away", "the resource goes; nothing is called"),
    "G2": Row("deleted with an undecided update", "nothing is sent after the deletion"),
    "G3": Row("deleted after its Secret", "the resource goes"),
    "G4": Row("the namespace is deleted", "nothing hangs"),
    "G5": Row("finalizers stripped by force", "nothing is sent afterwards"),
    "G6": Row("deleted and recreated at once", "as E8"),
    "G7": Row("suspended, edited, resumed", "0 updates while suspended, one after"),
    "G8": Row("operator uninstalled, CRD removed", "nothing hangs; endpoints stay"),
    "H1": Row("at most 64 file descriptors", "calls queue; no crash"),
    "H2": Row("the event loop stands still for seconds", "the claim is over: nothing is sent late"),
    "H3": Row("standard output is full or closed", "the loop goes on"),
    "H4": Row("a tenth of a processor", "slower, not wrong"),
    "H5": Row("one endpoint that never answers beside many", "the others do not notice"),
}

LEFT_OUT: Mapping[str, str] = {}
"""Rows without a test, and why."""
