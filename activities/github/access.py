"""What every activity at GitHub needs: the configuration, and a way to the API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from activities.configuration import ConfigurationError, load_configuration
from activities.github.api import GitHubApi, RefusedError
from domain.configuration import ApplicationSettings, Configuration


class GitHubAccess:
    """The configuration is read for each request, and the token (``GITHUB_TOKEN``) only when it is used.

    Args:
        http: closed by its creator.
        configuration: path of deployment.yaml.
        environment: of the worker.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        configuration: str | Path,
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._http = http
        self._path = Path(configuration)
        self._environment = environment

    async def _configuration(self) -> Configuration:
        try:
            return await asyncio.to_thread(load_configuration, self._path)
        except ConfigurationError as error:
            raise RefusedError(f"deployment.yaml cannot be used: {str(error)[:500]}") from None

    def _api(self, configuration: Configuration) -> GitHubApi:
        return GitHubApi.connect(self._http, configuration.git_hosts.github.api_url, self._environment)


def settings_of(configuration: Configuration, application: str) -> ApplicationSettings:
    """What deployment.yaml says of an application.

    Raises:
        RefusedError: nothing.
    """
    settings = configuration.applications.get(application)
    if settings is None:
        raise RefusedError(f"deployment.yaml has no application {application!r}")
    return settings
