# syntax=docker/dockerfile:1
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS install
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY domain domain
COPY activities activities
COPY workflows workflows
COPY workers workers
COPY starters starters
COPY sandbox sandbox
# Only what the worker needs, in the versions and with the hashes of the lock file.
RUN uv venv /opt/erlmcp-deploy \
    && uv pip install --no-cache --compile-bytecode --python /opt/erlmcp-deploy/bin/python \
        --constraints requirements.lock .

FROM ${PYTHON} AS base
RUN useradd --uid 10001 --create-home --home-dir /var/lib/erlmcp-deploy deploy
COPY --from=install /opt/erlmcp-deploy /opt/erlmcp-deploy
ENV PATH=/opt/erlmcp-deploy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ERLMCP_DEPLOY_HOME=/var/lib/erlmcp-deploy
WORKDIR /var/lib/erlmcp-deploy
VOLUME /var/lib/erlmcp-deploy
ENTRYPOINT ["python", "-m", "workers"]

FROM base AS build-worker
# Debian removes old versions from its mirrors, so none are named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        git make xz-utils erlang-dev erlang-tools erlang-reltool erlang-eunit erlang-common-test \
        erlang-dialyzer rebar3 \
    && rm -rf /var/lib/apt/lists/*
ENV TERM=dumb
USER 10001
CMD ["--role", "builds"]

FROM base AS worker
USER 10001
CMD ["--role", "deployments"]
