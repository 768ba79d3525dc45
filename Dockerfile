# The environment of espnet_prune on Debian, for CPU and NVIDIA GPUs (torch brings CUDA's libraries).
#   docker build --tag espnet_prune .
#   docker run --rm -it [--gpus all] espnet_prune
# This file has not been built by the project's own CI, which has no container runtime. The steps are
# those that tools/test_espnet_202611.sh runs in a bare Debian.
FROM debian:12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*
COPY . /espnet_prune
WORKDIR /espnet_prune
RUN python3 tools/install.py && rm -rf /root/.cache
ENV PATH=/espnet_prune/tools/venv/bin:$PATH
CMD ["bash"]
