#!/bin/sh
# Creates the bucket for audit copies with object lock, and its writer, who may not lift a lock.
# Safe to run again. Environment: WEED_MASTER, AUDIT_BUCKET, AUDIT_ACCESS_KEY_ID, AUDIT_SECRET_ACCESS_KEY.
set -eu

: "${WEED_MASTER:?}" "${AUDIT_BUCKET:?}" "${AUDIT_ACCESS_KEY_ID:?}" "${AUDIT_SECRET_ACCESS_KEY:?}"

in_shell() {
    answer=$(printf 'lock\n%s\nunlock\nexit\n' "$1" | timeout 60 weed shell -master "$WEED_MASTER" 2>&1) || true
}

in_shell "s3.bucket.lock -name $AUDIT_BUCKET"
case $answer in
*"not found"* | *"no entry"* | *"not exist"*) in_shell "s3.bucket.create -name $AUDIT_BUCKET -withLock" ;;
esac
in_shell "s3.configure -apply -user audit-writer -access_key $AUDIT_ACCESS_KEY_ID \
-secret_key $AUDIT_SECRET_ACCESS_KEY -buckets $AUDIT_BUCKET -actions Read,List,Write,PutObjectRetention"

in_shell "s3.bucket.lock -name $AUDIT_BUCKET"
case $answer in
*"Object Lock: Enabled"*) echo "bucket $AUDIT_BUCKET is ready, with object lock" ;;
*) echo "bucket $AUDIT_BUCKET has no object lock: $answer" >&2; exit 1 ;;
esac
