"""What the node's programs are told. Pure: nothing here starts anything or touches a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from e2e.node.images import BASE
from e2e.node.names import DOMAIN

NODE: Final = "n1"
CGROUP: Final = "inference-operator-node"
"""A subtree of the machine's control groups that the node and its pods have for themselves."""

LINK: Final = "io-host"
"""The host's end of the cable to the node."""

HOST_ADDRESS: Final = "10.231.0.1"
"""Where pods reach the host, over a link that leads to this node alone."""

NODE_ADDRESS: Final = "10.231.0.2"
SERVICES: Final = "10.96.0.0/16"
PODS: Final = "10.244.0.0/24"
API_PORT: Final = 6443

USERS: Final[Mapping[str, tuple[str, ...]]] = {
    "admin": ("system:masters",),
    f"system:node:{NODE}": ("system:nodes",),
    "system:kube-scheduler": (),
    "system:kube-controller-manager": (),
    "system:kube-proxy": (),
}
"""Who may use the API server, with the groups of each."""

API_NAMES: Final = (
    f"subjectAltName=IP:127.0.0.1,IP:{NODE_ADDRESS},IP:10.96.0.1,"
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
)
"""By which names the API server's certificate is asked for."""


def kubeconfig(folder: Path, user: str) -> Path:
    """The kubeconfig of one of `USERS`."""
    return folder / f"{user.rpartition(':')[2]}.kubeconfig"


def socket(folder: Path) -> Path:
    """Where containerd listens."""
    return folder / "containerd.sock"


def files(folder: Path) -> dict[str, str]:
    """The configuration files by their paths below the node's folder."""
    return {
        "containerd.toml": _containerd(folder),
        "kubelet.json": json.dumps(_kubelet(folder)),
        "kube-proxy.json": json.dumps(_kube_proxy(folder)),
        "cni/10-node.conflist": json.dumps(_NETWORK),
    }


def _containerd(folder: Path) -> str:
    return f"""\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0

[grpc]
address = "{socket(folder)}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{BASE}"
disable_apparmor = true
# Without the right to lower it, no container would start.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


_NETWORK: Final = {
    "cniVersion": "1.0.0",
    "name": "node",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/addresses",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


def _kubelet(folder: Path) -> dict[str, Any]:
    never = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket(folder)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "clusterDNS": [HOST_ADDRESS],
        "clusterDomain": DOMAIN,
        "nodeStatusUpdateFrequency": "2s",
        # The disk is the machine's: how full it is says nothing about this node.
        "evictionHard": dict.fromkeys(never, "0%"),
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
    }


def _kube_proxy(folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig(folder, "system:kube-proxy"))},
        "mode": "nftables",
        "clusterCIDR": PODS,
        # Counted for the whole host, so not the node's to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def containerd(folder: Path) -> list[str]:
    """Arguments of containerd."""
    return [f"--config={folder / 'containerd.toml'}"]


def etcd(folder: Path) -> list[str]:
    """Arguments of etcd: one member, no TLS in a network of its own, and no waiting for the disk."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def kube_apiserver(folder: Path) -> list[str]:
    """Arguments of kube-apiserver: every default admission plugin, users from a file, and kubelet by its address."""
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--tls-cert-file={folder / 'api.crt'}",
        f"--tls-private-key-file={folder / 'api.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        f"--service-cluster-ip-range={SERVICES}",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    ]


def kube_controller_manager(folder: Path) -> list[str]:
    """Arguments of kube-controller-manager: alone, with an account for each controller."""
    return [
        f"--kubeconfig={kubeconfig(folder, 'system:kube-controller-manager')}",
        f"--service-account-private-key-file={folder / 'accounts.key'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
    ]


def kube_scheduler(folder: Path) -> list[str]:
    """Arguments of kube-scheduler: alone."""
    return [f"--kubeconfig={kubeconfig(folder, 'system:kube-scheduler')}", "--leader-elect=false"]


def kubelet(folder: Path) -> list[str]:
    """Arguments of kubelet."""
    return [
        f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={kubeconfig(folder, f'system:node:{NODE}')}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def kube_proxy(folder: Path) -> list[str]:
    """Arguments of kube-proxy."""
    return [f"--config={folder / 'kube-proxy.json'}", f"--hostname-override={NODE}"]
