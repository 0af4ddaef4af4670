#!/usr/bin/env bash
# NVIDIA's Multi-Process Service: lets kernels of several processes run on a GPU at the same time, instead of in turn.
#
# usage: mps.sh start|stop
#
# CUDA_VISIBLE_DEVICES says on which GPU. CUDA_MPS_ACTIVE_THREAD_PERCENTAGE, set for a server, limits its part of it.
set -euo pipefail

export CUDA_MPS_PIPE_DIRECTORY=${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}
export CUDA_MPS_LOG_DIRECTORY=${CUDA_MPS_LOG_DIRECTORY:-/tmp/nvidia-mps-log}

command -v nvidia-cuda-mps-control >/dev/null || {
    echo "mps.sh: there is no nvidia-cuda-mps-control here: it comes with NVIDIA's driver" >&2
    exit 1
}

case ${1-} in
start)
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    nvidia-cuda-mps-control -d
    ;;
stop) echo quit | nvidia-cuda-mps-control ;;
*)
    echo "usage: mps.sh start|stop" >&2
    exit 2
    ;;
esac
