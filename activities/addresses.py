"""Addresses of measured services: usable, and fit for messages."""

from __future__ import annotations

from dataclasses import dataclass

import httpx


class AddressError(ValueError):
    """It is no http(s) address. The text does not repeat it: it may hold a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """An http(s) address without its credentials, which would otherwise stand in every request log."""

    url: httpx.URL
    auth: httpx.BasicAuth | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a base address, such as ``https://user:password@prometheus.example.com/prefix``.

        Raises:
            AddressError: it is none.
        """
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            raise AddressError("it cannot be read as an address") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise AddressError("it is no http:// or https:// address")
        auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        return cls(url=url.copy_with(userinfo=b"", query=None, fragment=None), auth=auth)

    def at(self, path: str) -> httpx.URL:
        """The address of a path under this one; the path may have a query."""
        relative = httpx.URL(f"/{path.lstrip('/')}")
        return self.url.copy_with(raw_path=self.url.raw_path.rstrip(b"/") + relative.raw_path)

    def __str__(self) -> str:
        """Scheme, host and port: what a message needs to name."""
        port = f":{self.url.port}" if self.url.port is not None else ""
        return f"{self.url.scheme}://{self.url.host}{port}"
