#!/usr/bin/env bash
# Looks for secrets in the commits and in the files; what is found is named, and its value is not shown.
#
#   deploy/ci/secrets.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
need gitleaks "look for secrets"
cd "$root"

gitleaks git --redact --no-banner .
gitleaks dir --redact --no-banner --max-target-megabytes 5 .
