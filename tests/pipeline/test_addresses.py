"""Redacted addresses in messages: the location without keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.pipeline.addresses import shown_url, shown_value


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("https://host/v1/traces", "https://host/v1/traces"),
        ("https://host/key/v1/traces", "https://host/…"),
        ("https://host:443/v1/traces?api-key=key", "https://host:443/v1/traces?…"),
        ("https://host/#key", "https://host/?…"),
        ("http://[::1]:4318/key", "http://[::1]:4318/…"),
        ("http://user:p@ss:/word@host:1", "http://host:1"),
        ("http:/user:key@host", "http:/host"),
        ("http://host:key", "http://host/…"),
        ("//user:key@host", "//host"),
        ("localhost:4318/key", "localhost:4318/…"),
    ],
)
def test_an_address_is_told_down_to_its_port(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("path", ["", "runs/", "/var/log/runs", "C:/runs", r"C:\runs", "runs@home/x", "*"])
def test_a_path_of_a_file_is_told_as_it_stands(path: str) -> None:
    assert shown_url(path) == path


@given(
    user=st.text(st.characters(exclude_characters="\0")),
    path=st.text(st.characters(exclude_characters="@")),
)
def test_nothing_beside_the_host_is_told_of_any_url(user: str, path: str) -> None:
    told = shown_url(f"https://{user}K3Y:K3Y@host:1/{path}K3Y?K3Y={path}#K3Y")
    assert told.startswith("https://host:1/")
    assert "K3Y" not in told


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http/json", "'http/json'"),
        ("grpc2", "'grpc2'"),
        ("10 s", "(4 characters)"),
        ("0.5s", "'0.5s'"),
        ("", "''"),
        (-1, "-1"),
        ("/etc/ssl/ca.pem", "'/etc/ssl/ca.pem'"),
        ("certs/ca.pem", "'certs/ca.pem'"),
        ("sk-live-4f9aK3Y", "(15 characters)"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB", "(32 characters)"),
        ("c2VjcmV0L3Rva2VuPT0=", "(20 characters)"),
    ],
)
def test_a_value_is_shown_where_it_is_a_word_a_number_or_a_path(value: object, shown: str) -> None:
    """Any other value may be a key in the wrong place."""
    assert shown_value(value) == shown
