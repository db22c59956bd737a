# The gateway as an image: `docker build -t siger .`
#
#   docker run -p 8080:8080 -v ./configs:/etc/siger:ro siger
#
# Runs as a numeric user (Kubernetes' runAsNonRoot can check it) and writes to /var/lib/siger
# alone, so `--read-only` works with a configuration mounted at /etc/siger.

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# No pip inside the environment: nothing is installed once the image is built.
RUN python -m venv --without-pip /opt/siger
# The dependencies first: their layer stays as long as setup.py does.
COPY setup.py pyproject.toml LICENSE ./
COPY siger_gateway/__init__.py siger_gateway/
RUN pip --python /opt/siger/bin/python install '.[jwks]'
COPY siger_gateway siger_gateway
RUN pip --python /opt/siger/bin/python install --no-deps --force-reinstall '.[jwks]'

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Siger" \
      org.opencontainers.image.description="API gateway: REST proxying, service discovery, asynchronous jobs" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="Siger contributors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/siger/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SIGER_DATA_DIR=/var/lib/siger
# /etc/siger is writable for the gateway so that, with nothing mounted there, it can write its
# commented default configuration.
RUN groupadd --gid 10001 siger \
 && useradd --uid 10001 --gid siger --no-create-home --home-dir /var/lib/siger \
            --shell /usr/sbin/nologin siger \
 && install --directory --owner=10001 --group=10001 /var/lib/siger /etc/siger
COPY --from=build /opt/siger /opt/siger
WORKDIR /var/lib/siger
USER 10001:10001
VOLUME /var/lib/siger
EXPOSE 8080
STOPSIGNAL SIGTERM
# SIGER_PORT is a listen address: 8080, :8080 or 0.0.0.0:8080. Not urllib, which would follow
# http_proxy; -I -S skip the environment and site-packages, which halves the start-up.
# 400 is the answer where TLS is spoken: alive as well.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client, os, sys; port = os.environ.get('SIGER_PORT', '').rpartition(':')[2] or '8080'; probe = http.client.HTTPConnection('127.0.0.1', int(port), timeout=4); probe.request('GET', '/health/live'); sys.exit(probe.getresponse().status not in (200, 400))"]
ENTRYPOINT ["siger-gateway"]
CMD ["serve", "--config", "/etc/siger/config.yaml"]
