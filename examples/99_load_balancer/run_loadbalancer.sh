#!/usr/bin/env bash
# Run a load balancer at port 50050 in front of N servers at the ports 50051, 50052, ... of this machine.
#
# usage: run_loadbalancer.sh [N] [envoy|haproxy]
#
# PORT is the balancer's own, ADMIN_PORT where it tells about itself, FIRST_PORT the first of the servers'.
set -euo pipefail
PATH=$PATH:/usr/sbin # where Debian has HAProxy; it is not on everybody's PATH

servers=()
for ((number = 0; number < ${1:-2}; number++)); do
    servers+=("127.0.0.1:$((${FIRST_PORT:-50051} + number))")
done
render=(yais lb render "${servers[@]}" --port "${PORT:-50050}" --admin-port "${ADMIN_PORT:-9901}")

if [[ ${2:-envoy} == haproxy ]]; then
    config=$("${render[@]}" --haproxy)
    exec haproxy -db -f /dev/stdin <<<"$config"
fi
config=$("${render[@]}")
exec envoy --disable-hot-restart --config-yaml "$config"
