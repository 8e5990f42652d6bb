# The tag follows Python's security releases. Whoever needs the same bytes on every build pins it by digest:
# docker buildx imagetools inspect python:3.11-slim, and --build-arg BASE=python:3.11-slim@sha256:...
ARG BASE=python:3.11-slim

# What the gateway stands on. Changes seldom, so builders and registries keep it.
FROM ${BASE} AS packages
WORKDIR /src

# The tools stay in an environment of their own, so that none of them reaches the image.
COPY requirements-build.txt ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
        --require-hashes -r requirements-build.txt

# Bytecode is made here because the running user may not write it, and an import without it takes twice as long.
# Unchecked: no tool that copies layers can make it look out of date by touching a time stamp.
# requirements-cloudsql.txt has Google's connector besides (40 MB): --build-arg REQUIREMENTS=requirements-cloudsql.txt
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} ./requirements.txt
RUN python3 -m venv --without-pip /opt/gateway \
    && /opt/build/bin/uv pip install --quiet --no-cache --system-certs --python /opt/gateway/bin/python3 \
        --require-hashes --only-binary :all: -r requirements.txt \
    && find /opt/gateway/lib -type d -name tests -prune -exec rm -rf {} + \
    && rm -f /opt/gateway/.lock \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/gateway/lib


# The gateway itself, apart: what a new version adds to the image is these few files.
FROM packages AS build
COPY pyproject.toml README.md LICENSE openapi.yaml ./
COPY gateway ./gateway
RUN /opt/build/bin/hatchling build --target wheel --directory /dist \
    && /opt/build/bin/uv pip install --quiet --no-cache --python /opt/gateway/bin/python3 --prefix /opt/new \
        --no-deps /dist/*.whl \
    && rm -f /opt/new/.lock \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /opt/new -p /opt/gateway /opt/new/lib


FROM ${BASE}
LABEL org.opencontainers.image.title="gateway" \
      org.opencontainers.image.description="Metered multi-tenant access to Google's music models on Vertex AI" \
      org.opencontainers.image.licenses="Apache-2.0"

# Nothing that runs here installs anything, so what could is removed.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/* \
    && groupadd --gid 10001 gateway \
    && useradd --no-log-init --uid 10001 --gid gateway --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway --mode 0750 /data

COPY --from=packages /opt/gateway /opt/gateway
COPY --from=build /opt/new /opt/gateway

ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    GATEWAY_DATA_DIR=/data

# By number, so that an orchestrator can see that it is not root. The root file system may be read-only.
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8080') + '/livez', timeout=4)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
