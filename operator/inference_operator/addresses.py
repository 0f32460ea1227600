"""What counts as an address in the settings: of a provider, of a proxy, of our own probes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

LARGEST_PORT = 65535


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`; without a host, every IPv4 address of the machine.

        Raises:
            ValueError: It is not that.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not _is_port(port) or (":" in host and not bracketed):
            raise ValueError(f"{text!r} is not host:port; write 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080")
        return cls(host.strip("[]") or "0.0.0.0", int(port))


def origin(text: str) -> str:
    """Scheme, host and port of a provider: https, or http on loopback, and nothing behind it.

    Raises:
        ValueError: It is not an origin. The text is not repeated, since it may hold a password.
    """
    url = _split(text.strip())
    if url.scheme not in {"https", "http"} or not url.hostname or "@" in url.netloc:
        raise ValueError("an origin is https://host or https://host:port")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise ValueError("an origin ends after the host or port; the operator knows the provider's paths")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise ValueError("http is for loopback only, since keys would travel in the clear; write https://")
    return f"{url.scheme}://{url.netloc}"


def proxy(text: str) -> str:
    """URL of an HTTP proxy, which may hold a user and a password.

    Raises:
        ValueError: It is no such URL. The text is not repeated, since it may hold a password.
    """
    url = _split(text.strip())
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("write http://host:port, or http://user:password@host:port")
    return text.strip()


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        _ = url.port  # raises for a port out of range
    except ValueError:
        raise ValueError("not a URL") from None
    return url


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= LARGEST_PORT


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
