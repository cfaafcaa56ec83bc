#!/usr/bin/env bash
# Emergency roll-back in one line: the environment goes back to its last good version, or to VERSION.
#
#   scripts/deploy/emergency-rollback.sh ENVIRONMENT [--to VERSION] [--reason TEXT] [OPTIONS]
#
# Whatever is being rolled out there is stopped. It waits for the end: 0 rolled back, 1 not rolled back,
# 2 invalid input, 127 erlmcp-deploy is not installed. Ctrl-C leaves the waiting, not the roll-back.
# All options are those of `erlmcp-deploy rollback`; the server is found by TEMPORAL_ADDRESS as ever.
set -euo pipefail

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

case "${1-}" in
  -h | --help)
    usage
    exit 0
    ;;
  "" | -*)
    usage >&2
    exit 2
    ;;
esac
environment=$1
shift

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
if [[ -n ${ERLMCP_DEPLOY-} ]]; then
  cli=$ERLMCP_DEPLOY
elif [[ -x $root/.venv/bin/erlmcp-deploy ]]; then
  cli=$root/.venv/bin/erlmcp-deploy
else
  cli=erlmcp-deploy
fi
if ! command -v -- "$cli" >/dev/null; then
  echo "error $cli is not installed; try: pip install erlmcp-deploy, or: make -C '$root' setup" >&2
  exit 127
fi

# From any directory: the configuration beside this script, unless another one is named or lies here.
if [[ -z ${ERLMCP_DEPLOY_CONFIG-} && ! -e deployment.yaml && -e $root/deployment.yaml ]]; then
  export ERLMCP_DEPLOY_CONFIG=$root/deployment.yaml
fi

# Somebody must answer for it, but a missing e-mail address must not keep anybody from acting.
if [[ -z ${ERLMCP_DEPLOY_ACTOR-}${GITHUB_ACTOR-} ]] && ! git config user.email >/dev/null 2>&1; then
  ERLMCP_DEPLOY_ACTOR=${SUDO_USER:-$(id -un)}@$(uname -n)
  export ERLMCP_DEPLOY_ACTOR
fi

# The last --reason counts, so one that is given replaces this one.
exec "$cli" rollback "$environment" --reason "emergency roll-back" --wait "$@"
