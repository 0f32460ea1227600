"""The command lines of the control plane's components. Pure: nothing here starts anything or touches a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


@dataclass(frozen=True)
class Layout:
    """Where one control plane keeps its files and listens.

    Attributes:
        folder: Holds every file.
        api_port: kube-apiserver, TLS.
        etcd_port: etcd, for clients.
        peer_port: etcd, for the peers that it does not have.
    """

    folder: Path
    api_port: int
    etcd_port: int
    peer_port: int

    @property
    def url(self) -> str:
        """Origin of the API server."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def certificate(self) -> Path:
        """Written by the API server when it starts for the first time; the chain ends with its own authority."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def key(self) -> Path:
        """The private key of `certificate`; signs service account tokens as well, so that nobody has to make one."""
        return self.certificate.with_suffix(".key")

    @property
    def tokens(self) -> Path:
        """The users and their bearer tokens."""
        return self.folder / "tokens.csv"

    @property
    def audit_policy(self) -> Path:
        """What the audit log is to contain: `AUDIT_POLICY`."""
        return self.folder / "audit-policy.yaml"

    @property
    def audit_log(self) -> Path:
        """One JSON object per line."""
        return self.folder / "audit.log"

    def log(self, component: str) -> Path:
        """What a component prints."""
        return self.folder / f"{component}.log"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of a user."""
        return self.folder / f"{user}.kubeconfig"


def etcd(layout: Layout) -> list[str]:
    """Arguments of etcd: one member, no TLS, and no waiting for the disk."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (layout.etcd_port, layout.peer_port))
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def kube_apiserver(layout: Layout) -> list[str]:
    """Arguments of kube-apiserver: RBAC, audit log, users from a file.

    It is told an address to advertise because it would otherwise look for a default route, and not to maintain the
    endpoints of its own service because they may not be on loopback.
    """
    return [
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.api_port}",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={layout.certificate.parent}",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.key}",
        f"--service-account-signing-key-file={layout.key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
        "--allow-privileged=true",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
    ]


def kube_controller_manager(layout: Layout, *, user: str) -> list[str]:
    """Arguments of kube-controller-manager: alone, every default controller, serving nothing.

    Autoscalers are looked at every second, as nobody who tries one wants to wait for the quarter of a minute.
    """
    return [
        f"--kubeconfig={layout.kubeconfig(user)}",
        f"--service-account-private-key-file={layout.key}",
        f"--root-ca-file={layout.certificate}",
        "--leader-elect=false",
        "--secure-port=0",
        "--horizontal-pod-autoscaler-sync-period=1s",
    ]
