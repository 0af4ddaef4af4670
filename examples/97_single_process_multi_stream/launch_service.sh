#!/usr/bin/env bash
# Serve `digits` from one process, with N executions at once. Ctrl-C drains and ends.
#
# usage: launch_service.sh [N] [OPTIONS OF yais serve]
set -euo pipefail
cd "$(dirname "$0")/../.."

executions=${1:-2}
# Instances are what a model has of contexts, on whatever device; executions what a GPU runs at once, of all models.
exec yais serve --model-repository examples/models --model-control-mode explicit --load-model digits \
    --set "digits.instance_group.0.count=$executions" --gpu-executions "$executions" "${@:2}"
