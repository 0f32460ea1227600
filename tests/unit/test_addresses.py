from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_operator.addresses import Address, origin, proxy


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:8080", "0.0.0.0", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        (":9090", "0.0.0.0", 9090),
        ("[::1]:8080", "::1", 8080),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "8080", "host", "host:", "host:x", "host:-1", "host:65536", "::1:80", "host:8\u0660"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        Address.parse(text)


@given(host=st.sampled_from(["127.0.0.1", "::", "::1", "localhost"]), port=st.integers(0, 65535))
def test_an_address_reads_back_as_it_is_written(host: str, port: int) -> None:
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
        ("http://127.9.9.9:9001", "http://127.9.9.9:9001"),
        ("http://[::1]:9001", "http://[::1]:9001"),
        ("http://localhost:9001", "http://localhost:9001"),
    ],
)
def test_an_origin_is_https_or_http_on_loopback(text: str, wanted: str) -> None:
    assert origin(text) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://api.example.com", "loopback only"),
        ("http://10.0.0.1:9001", "loopback only"),
        ("http://localhost.example.com", "loopback only"),
        ("http://127.0.0.1.example.com", "loopback only"),
        ("https://api.example.com/v1", "ends after the host"),
        ("https://api.example.com?x=1", "ends after the host"),
        ("https://api.example.com#x", "ends after the host"),
        ("https://user:password@api.example.com", "https://host"),
        ("https://api.example.com:99999", "not a URL"),
        ("https://[::1", "not a URL"),
        ("ftp://api.example.com", "https://host"),
        ("api.example.com", "https://host"),
        ("https://", "https://host"),
        ("", "https://host"),
    ],
)
def test_any_other_origin_is_refused_without_repeating_it(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        origin(text)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize("text", ["http://proxy:3128", "https://user:password@proxy:3128"])
def test_a_proxy_may_hold_a_password(text: str) -> None:
    assert proxy(text) == text


@pytest.mark.parametrize(
    "text", ["proxy:3128", "socks5://user:password@proxy", "http://user:password@:99999", "http://"]
)
def test_any_other_proxy_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a URL|write http") as refused:
        proxy(text)
    assert "password@" not in str(refused.value).replace("user:password@host", "")
