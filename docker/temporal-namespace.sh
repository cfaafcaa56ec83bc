#!/bin/sh
# Creates the namespace and the search attributes that workers need. Safe to run again.
# Environment: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, RETENTION (of closed workflows).
set -eu

: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}"

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "${RETENTION:-30d}"
fi

# The frontend learns of a new namespace only after a while.
attempts=30
until known=$(temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE" 2>&1); do
    attempts=$((attempts - 1))
    [ "$attempts" -gt 0 ] || { echo "$known" >&2; exit 1; }
    sleep 1
done

set --
for attribute in Application:Keyword Environment:Keyword Version:Keyword DeploymentState:Keyword AwaitingApproval:Bool; do
    name=${attribute%:*}
    if ! echo "$known" | grep -qw "$name"; then
        set -- "$@" --name "$name" --type "${attribute#*:}"
    fi
done
if [ $# -gt 0 ]; then
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" "$@"
fi
echo "namespace $TEMPORAL_NAMESPACE is ready"
