"""Who takes part: the loops that mark what is possible, this operator, and what people would use in its place."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final

from faults.comparison import Profile
from faults.peers import crossplane, naive, ours
from faults.peers.subject import Subject
from faults.peers.wish import Wish
from inference_operator import __version__
from inference_operator.playground import binaries, toolchain
from inference_operator.playground.progress import on_terminal
from inference_operator.playground.toolchain import GoModule
from inference_operator.settings import Settings
from rig import QUICK

TESTS: Final = Path(__file__).parents[1]
PYTHON: Final = sys.version.split()[0]
HANDLER: Final = Path(__file__).with_name("loops") / "handler.py"
UNLIMITED: Final = 100_000
REGISTRY: Final = "registry.example"
"""Before the name of an image that stands for a model."""

SHARDS: Final = 3
SHARD: Final = "bench-shard"
"""The label that divides the resources of every subject."""


class Loop(naive.Naive):
    """A program of `bench.loops` on the resources of the plain handler."""

    arguments: ClassVar[tuple[str, ...]]

    def start(self) -> None:
        self.spawn([sys.executable, "-m", *self.arguments], PYTHONPATH=str(TESTS), **self.surroundings())

    def surroundings(self) -> dict[str, str]:
        """The environment of the program."""
        return {
            "RESOURCES": self.path,
            "PROVIDER_ORIGIN": self.rig.emulators.urls()["friendli"],
            "PROVIDER_TOKEN": self.rig.token,
        }


def _python(*distributions: str) -> str:
    return ", ".join([f"Python {PYTHON}", *(f"{name} {version(name)}" for name in distributions)])


class Floor(Loop):
    arguments = ("bench.loops.floor",)
    profile = Profile(
        name="floor",
        title="FLOOR",
        version=_python("aiohttp"),
        settings="bare loop: watch, PUT, status PATCH; no safety",
    )


class Again(Floor):
    profile = Floor.profile.model_copy(
        update={"name": "floor2", "title": "FLOOR again", "settings": "the same program; the control of the run"}
    )


class Yardstick(Loop):
    arguments = ("bench.loops.floor", "--intent")
    profile = Profile(
        name="yardstick",
        title="FLOOR + intent + read",
        version=_python("aiohttp"),
        settings="FLOOR with one provider read and one guarded status write before the PUT; the yardstick of SAFE",
    )


class Safe(Loop):
    arguments: ClassVar[tuple[str, ...]] = ("bench.loops.safe",)
    profile = Profile(
        name="safe",
        title="SAFE",
        version=_python("aiohttp", "h11"),
        settings="spec and version count read side by side, guarded intent PATCH, PUT, status PATCH; nothing else",
    )


class SafeTyped(ours.Ours, Safe):
    """SAFE at work on the operator's resource, so that what remains between the two is the operator's own."""

    arguments = (*Safe.arguments, "--typed")
    profile = Safe.profile.model_copy(
        update={
            "name": "safe-typed",
            "title": "SAFE on InferenceEndpoint",
            "settings": "the same program on this operator's resource, whose spec it translates",
        }
    )

    def start(self) -> None:
        Safe.start(self)

    def claims(self, resource: Mapping[str, Any]) -> bool:
        return Safe.claims(self, resource)


class Naive(Loop):
    """A plain handler with what kopf and httpx have as defaults, and one client for all its calls."""

    arguments = ("kopf", "run", "--standalone")
    profile = Profile(
        name="naive",
        title="NAIVE (plain kopf handler)",
        version=_python("kopf", "httpx"),
        settings="kopf run --standalone, everything as shipped",
    )

    def start(self) -> None:
        scope = ["--namespace", self.rig.namespace, str(HANDLER)]
        self.spawn([sys.executable, "-m", *self.arguments, *scope], **self.surroundings())


def _flags(own: Mapping[str, Any]) -> str:
    return " ".join(f"--{name}={value}" for name, value in own.items())


class Ours(ours.Ours):
    """This operator as shipped, but for the limits that protect an account: the emulator needs no protection."""

    limited = False
    """Whether it is started with the limits that it ships."""

    own: ClassVar[Mapping[str, Any]] = {"calls-per-second": UNLIMITED, "calls-burst": UNLIMITED, "max-rollouts": 0}
    profile = Profile(
        name="ours",
        title="OURS (this operator)",
        version=f"{__version__}, {_python('kopf', 'h11')}",
        settings=f"as shipped but for the protection of the account: {_flags(own)}",
    )

    def start(self) -> None:
        self.begin()

    def begin(self, *arguments: str) -> None:
        """Start a copy with more of a command line."""
        shipped = {flag: Settings.model_fields[flag.replace("-", "_")].default for flag in QUICK}
        flags = {**shipped, "log-level": "info", **({} if self.limited else self.own)}
        named = {name.replace("-", "_"): value for name, value in flags.items()}
        self.rig.start(*arguments, wait=False, **named)


class OursUnpolled(Ours):
    """This operator with looks at what was edited, and at nothing else, during a run of some minutes.

    A poll after many updates come as many looks by turn, and those that fall between the next edit of their endpoint
    and its update are no reads of that change. On a slow machine, where edits wait for seconds, some always do.
    """

    own: ClassVar[Mapping[str, Any]] = {**Ours.own, "poll-seconds": 3600}
    profile = Ours.profile.model_copy(
        update={"name": "ours-unpolled", "title": "OURS without looks by turn", "settings": f"as OURS: {_flags(own)}"}
    )


class OursNovita(Ours):
    """This operator on endpoints of the other provider."""

    provider = "novita"
    profile = Ours.profile.model_copy(update={"name": "ours-novita", "title": "OURS on Novita"})

    def spec(self, wish: Wish) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "endpointId": wish.endpoint_id,
            "credentialsSecretRef": {"name": "key"},
            "scaling": ours.scaling(wish),
            "novita": {"image": {"image": f"{REGISTRY}/{wish.model}"}},
        }


class OursInShards(Ours):
    """Three copies, each with a third of the resources by the label `SHARD`."""

    profile = Ours.profile.model_copy(
        update={
            "name": "ours-3",
            "title": "OURS in three shards",
            "settings": "as OURS, three copies by --label-selector",
        }
    )

    def start(self) -> None:
        for number in range(SHARDS):
            self.start_shard(number)

    def start_shard(self, number: int) -> None:
        """Start one of the copies."""
        self.begin("--label-selector", f"{SHARD}={number}")


class _Peer(crossplane.ProviderHttp):
    """provider-http with the poll and the time-outs that it ships."""

    def start(self) -> None:
        self.spawn([crossplane.program(), "--poll=1m", f"--max-reconcile-rate={self.rate}"])

    def spec(self, wish: Wish) -> dict[str, Any]:
        spec = super().spec(wish)
        spec["forProvider"]["waitTimeout"] = "30s"
        return spec


def _settings(rate: int, words: str) -> str:
    return f"--poll=1m --max-reconcile-rate={rate} (10 as shipped); {words}"


class PeerDefault(_Peer):
    rate, update_body = 10, crossplane.Default.update_body
    profile = Profile(
        name="peer-d",
        title="provider-http D",
        version=crossplane.MODULE.version,
        settings=_settings(rate, "default response check"),
    )


class PeerDefaultFast(PeerDefault):
    rate = 100
    profile = PeerDefault.profile.model_copy(
        update={"name": "peer-d100", "title": "provider-http D, rate 100", "settings": _settings(rate, "as D")}
    )


_READABLE = {**crossplane._READABLE, ".response.body.name": ".payload.body.name"}
_CHECK = " and ".join(f"({shown} == {wanted})" for shown, wanted in _READABLE.items())


class PeerCustom(_Peer):
    rate, update_body = 10, ".payload.body"
    check: ClassVar = {"type": "CUSTOM", "logic": f"if {_CHECK} then true else false end"}
    profile = Profile(
        name="peer-c",
        title="provider-http C",
        version=crossplane.MODULE.version,
        settings=_settings(rate, "custom check in jq over the readable fields"),
    )


class PeerCustomFast(PeerCustom):
    rate = 100
    profile = PeerCustom.profile.model_copy(
        update={"name": "peer-c100", "title": "provider-http C, rate 100", "settings": _settings(rate, "as C")}
    )


class PeerBestSlow(_Peer):
    rate, update_body = 10, crossplane.Best.update_body
    more, check = crossplane.Best.more, crossplane.Best.check
    profile = Profile(
        name="peer-b10",
        title="provider-http B, rate 10",
        version=crossplane.MODULE.version,
        settings=_settings(rate, "as B"),
    )


class PeerBest(PeerBestSlow):
    rate = 100
    profile = PeerBestSlow.profile.model_copy(
        update={
            "name": "peer-b",
            "title": "provider-http B",
            "settings": _settings(rate, "C, with the model in the endpoint's name, and failed reads left alone"),
        }
    )


RUNTIME_SOURCE: Final = "sigs.k8s.io/controller-runtime"
RUNTIME: Final = GoModule(Path(__file__).with_name("controllerruntime"), stamped=RUNTIME_SOURCE)


@cache
def controller() -> Path:
    """Where the minimal controller's program is, after building it if that has not been done.

    Raises:
        BuildError: It could not be built.
    """
    name = "controllerruntime"
    with on_terminal() as report, binaries._locked(binaries.cache_folder(RUNTIME), report, name) as folder:
        if not (folder / name).exists():
            toolchain.build(RUNTIME, {name: "."}, folder, report)
        return folder / name


class Runtime(Loop):
    """What a team writes that knows Go: a reconciler of about a hundred lines."""

    profile = Profile(
        name="runtime",
        title="controller-runtime",
        version=RUNTIME.version,
        settings="about 100 lines of Go: read, PUT if the generation is new, status update; 10 workers",
    )

    def start(self) -> None:
        self.spawn([controller()], NAMESPACE=self.rig.namespace, **self.surroundings())


SUBJECTS: Final[Mapping[str, type[Subject]]] = {
    each.profile.name: each
    for each in (
        Floor,
        Again,
        Yardstick,
        Safe,
        SafeTyped,
        Ours,
        OursUnpolled,
        OursNovita,
        OursInShards,
        Naive,
        Runtime,
        PeerDefault,
        PeerDefaultFast,
        PeerCustom,
        PeerCustomFast,
        PeerBestSlow,
        PeerBest,
    )
}
"""Everybody by name, in the order of the tables."""

_SPECIAL: Final = {each.profile.name for each in (OursInShards, OursUnpolled)}

USUAL: Final = tuple(name for name in SUBJECTS if name not in _SPECIAL)
"""Everybody but the shards, for which there are phases of their own, and the subject of the gate."""

ONCE: Final = ("peer-d", "peer-d100", "peer-c", "peer-c100", "peer-b10")
"""Of the usual subjects, those that take part in the first block alone, because they have a cluster to themselves and
start anew for each phase, with the rate that is shipped for minutes; their best configuration takes part in all."""


def looks(subject: Subject) -> bool:
    """Whether it looks at its endpoints although nobody edits anything."""
    return not isinstance(subject, naive.Naive)


def prepare(names: Sequence[str]) -> None:
    """Build the programs that those need who take part."""
    if any(issubclass(SUBJECTS[name], crossplane.ProviderHttp) for name in names):
        crossplane.program()
        crossplane.definitions()
    if "runtime" in names:
        controller()
