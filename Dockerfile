# `yais serve` in a container, for models on CPUs (target cpu) or on NVIDIA's GPUs (target cuda): docs/container.md.
ARG PYTHON=3.11-slim-bookworm

FROM docker.io/library/python:${PYTHON} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY container/build.txt container/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r container/build.txt \
    && python3 -m venv --without-pip /opt/yais

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY yais yais
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# What is installed is locked with hashes: scripts/container-lock. The wheel comes last: it changes most.
FROM tools AS build-cpu
COPY container/cpu.txt container/
RUN /opt/build/bin/pip --python /opt/yais/bin/python3 install --require-hashes --only-binary :all: -r container/cpu.txt
COPY --from=wheel /wheels /wheels
RUN /opt/build/bin/pip --python /opt/yais/bin/python3 install --no-deps /wheels/*.whl

# TensorRT's libraries are packages of sources that fetch NVIDIA's wheels.
FROM tools AS build-cuda
COPY container/cuda.txt container/
RUN /opt/build/bin/pip --python /opt/yais/bin/python3 install --require-hashes -r container/cuda.txt
COPY --from=wheel /wheels /wheels
RUN /opt/build/bin/pip --python /opt/yais/bin/python3 install --no-deps /wheels/*.whl

FROM docker.io/library/python:${PYTHON} AS server
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="yais" \
    org.opencontainers.image.description="An inference server for the KServe v2 protocol" \
    org.opencontainers.image.licenses="BSD-3-Clause" \
    org.opencontainers.image.source="https://github.com/yais/yais" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# Nothing is written: the byte code is there already, and the root may be read-only. What needs a home has /tmp.
ENV PATH=/opt/yais/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    YAIS_SERVE_MODEL_REPOSITORY=/models
WORKDIR /
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["yais", "serve"]

FROM server AS cuda
COPY --from=build-cuda /opt/yais /opt/yais
# What NVIDIA's container toolkit adds of the driver; and queues for as many lanes as there can be (docs/gpu.md).
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_DEVICE_MAX_CONNECTIONS=32

# The last is what is built without --target.
FROM server AS cpu
COPY --from=build-cpu /opt/yais /opt/yais
