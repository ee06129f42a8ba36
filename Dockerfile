# The four images: docker build --target operator|signer|cli|sandbox .   (docs/images.md; hack/build-images without Docker)
#
# Each holds one part of the source tree and that part's requirements, installed by hash; no installer is added.
# A release names the base by digest: --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:...
# Any base does that has Python 3.11 or later with venv and ensurepip, CA certificates and /tmp.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What builds: pip, the wheel builder and the SBOM generator, by hash, in an environment that no image gets.
FROM ${BASE_IMAGE} AS tools
# Not the layers' business: a package index of the builder's own, with its credentials and CA, comes as two secrets.
ENV PIP_CONFIG_FILE=/run/secrets/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /build
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    python3 -m venv tools \
    && tools/bin/python -m pip install --quiet --only-binary :all: --require-hashes --requirement requirements/build.txt
COPY hack/image/install hack/image/

FROM tools AS operator-requirements
COPY requirements/operator.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca hack/image/install requirements operator

FROM operator-requirements AS operator-files
COPY LICENSE README.md pyproject.toml ./
COPY hack/image hack/image
COPY api api
COPY service service
COPY operator operator
RUN hack/image/install part operator

FROM tools AS signer-requirements
COPY requirements/signer.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca hack/image/install requirements signer

FROM signer-requirements AS signer-files
COPY LICENSE README.md pyproject.toml ./
COPY hack/image hack/image
COPY api api
COPY service service
COPY signer signer
RUN hack/image/install part signer

FROM tools AS cli-requirements
COPY requirements/cli.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca hack/image/install requirements cli

FROM cli-requirements AS cli-files
COPY LICENSE README.md pyproject.toml ./
COPY hack/image hack/image
COPY api api
COPY service service
COPY client client
RUN hack/image/install part cli

FROM tools AS sandbox-requirements
COPY requirements/sandbox.txt requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca hack/image/install requirements sandbox

FROM sandbox-requirements AS sandbox-files
COPY LICENSE README.md pyproject.toml ./
COPY hack/image hack/image
COPY api api
COPY service service
COPY signer signer
COPY client client
COPY sandbox sandbox
COPY charts/byok-operator/presets charts/byok-operator/presets
COPY examples examples
RUN hack/image/install part sandbox

# What runs. Nothing below writes: the root file system may be read-only. Requirements and part are layers of their own:
# a new version of this project is a pull of some megabytes.
FROM ${BASE_IMAGE} AS runtime
# No PYTHONUNBUFFERED: it makes standard output, where audit records may go, write in parts.
# Modules come from /opt/byok alone, never from the working directory, where a job's media lie.
# gRPC's own log repeats, in its words, what a refusal says.
ENV PATH=/opt/byok/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    GRPC_VERBOSITY=NONE
USER 65532:65532

FROM runtime AS operator
COPY --from=operator-requirements /opt/byok /opt/byok
COPY --from=operator-files /build/files /
ENTRYPOINT ["/opt/byok/bin/python", "/opt/byok/start.py", "byok_operator"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="byok-operator/operator" \
      org.opencontainers.image.description="Proves that customers' KMS keys can sign, and says so in their status." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

FROM runtime AS signer
COPY --from=signer-requirements /opt/byok /opt/byok
COPY --from=signer-files /build/files /
EXPOSE 8443 9090
ENTRYPOINT ["/opt/byok/bin/python", "/opt/byok/start.py", "byok_signer"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="byok-operator/signer" \
      org.opencontainers.image.description="Signs C2PA claims with keys held in AWS KMS, over gRPC." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

FROM runtime AS cli
COPY --from=cli-requirements /opt/byok /opt/byok
COPY --from=cli-files /build/files /
WORKDIR /work
ENTRYPOINT ["/opt/byok/bin/python", "/opt/byok/start.py", "byok_client.cli"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="byok-operator/cli" \
      org.opencontainers.image.description="byokctl and the Python SDK: signs media, looks after recipes, keys and records." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

FROM runtime AS sandbox
COPY --from=sandbox-requirements /opt/byok /opt/byok
COPY --from=sandbox-files /build/files /
# The arguments name the module: by default the whole system in one container, else one of its parts.
ENTRYPOINT ["/opt/byok/bin/python", "/opt/byok/start.py"]
CMD ["byok_client.cli", "sandbox"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="byok-operator/sandbox" \
      org.opencontainers.image.description="An emulated KMS to try byok-operator with. Not for production." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
