# An image with the command monai-iste, whole slides and the viewer. docs/docker.md says how to build and run it.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# A base without Python gets its distribution's.
RUN python3 -c "import ensurepip, venv" 2>/dev/null || { \
        apt-get update && \
        apt-get install --yes --no-install-recommends python3 python3-venv && \
        rm -rf /var/lib/apt/lists/*; \
    }

# PyTorch first: the largest layer, which a change of the sources does not build again.
ARG TORCH=2.13.0
ARG TORCH_INDEX=
RUN python3 -m venv /opt/venv && \
    /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch==${TORCH}"

COPY . /src
RUN /opt/venv/bin/pip install --no-cache-dir "/src[slides,distributed,viewer]" && \
    rm -rf /src

# Not root: what it writes into a mounted folder belongs to user 1000, or to the one that --user names.
RUN useradd --create-home --uid 1000 iste || id 1000
USER 1000
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp
WORKDIR /data
EXPOSE 8765
ENTRYPOINT ["monai-iste"]
CMD ["--help"]
