#!/usr/bin/env bash
# Commits the image as a canary revision of one environment; from there on Argo CD and Serin act. Prints the commit as JSON.
#
#   CONFIG_REPOSITORY=url CONFIG_BRANCH=branch CONFIG_USER=name GIT_TOKEN=… ENVIRONMENT=prod ROLLOUT=namespace/name CLUSTER=id \
#   IMAGE=registry/name VERSION=tag [DIGEST=sha256:…] [SET=env.KEY=VALUE] deploy/ci/canary.sh
#
# DIGEST  what the pods run is this, whatever becomes of the tag
# SET     a change of configuration that comes with the image
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
given CONFIG_REPOSITORY CONFIG_BRANCH CONFIG_USER GIT_TOKEN ENVIRONMENT ROLLOUT CLUSTER IMAGE VERSION
need serin "commit a canary revision"

export SERIN_GIT_USERNAME="$CONFIG_USER" SERIN_GIT_TOKEN="$GIT_TOKEN"
exec serin revision create \
  --repository "$CONFIG_REPOSITORY" --branch "$CONFIG_BRANCH" \
  --path "deploy/environments/$ENVIRONMENT" --file values.yaml --canary canary \
  --image-repository "$IMAGE" --image-tag "$VERSION" --revision "$VERSION" \
  ${DIGEST:+--set "image.digest=$DIGEST"} \
  ${SET:+--set "$SET"} \
  --cluster "$CLUSTER" --rollout "$ROLLOUT"
