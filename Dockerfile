# The operator's image: a Python, one virtual environment, nothing else.
#
#     docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" \
#                  --build-arg CREATED="$(date -u +%FT%TZ)" --tag inference-operator:0.1.0 .
#
# Everything that is installed on the way has a hash in a lock file. The base has one if it is given with its digest:
# --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:… Any base will do that has Python 3.11 with venv, and
# certificate authorities.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
# Another package index, for builds that cannot reach the public one. Arguments of this stage are not in the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
# Bytecode is found by content, because some builders change the times of files, and nobody could write it anew later.
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_NO_CACHE=1 UV_SYSTEM_CERTS=1
WORKDIR /build
COPY requirements-build.lock ./
RUN python3 -m venv tools && tools/bin/python -m pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY requirements.lock ./
RUN tools/bin/uv venv --python python3 /opt/inference-operator \
    && tools/bin/uv pip sync --python /opt/inference-operator --require-hashes --no-build --compile-bytecode \
       requirements.lock

FROM dependencies AS program
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN tools/bin/uv build --wheel --python tools/bin/python --no-build-isolation --out-dir dist \
    && tools/bin/uv pip install --python /opt/inference-operator --prefix /program --no-deps --compile-bytecode dist/*

FROM ${PYTHON_IMAGE}
COPY --from=dependencies /opt/inference-operator /opt/inference-operator
COPY --from=program /program /opt/inference-operator
ENV PATH=/opt/inference-operator/bin:$PATH
# Proves that it starts, and leaves the bytecode of what it imports from the standard library. Slim bases lack that, and
# compiling it anew would take most of a second of CPU at every start.
RUN ["python", "-I", "-c", "import inference_operator.app, inference_operator.cli"]
WORKDIR /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-I", "-m", "inference_operator"]
CMD ["run"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="inference-operator" \
      org.opencontainers.image.description="A Kubernetes operator for model endpoints that run at a GPU provider" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
