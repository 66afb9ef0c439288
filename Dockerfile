# One image for every role: experiment, flow, API, and the servers of MLflow and Prefect.
#
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" --tag sentiment .
#   docker run --rm sentiment python -m sentiment --help
#
# It runs as a user without rights, on a read-only file system, with /tmp as its only place to write.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS packages
COPY deploy/requirements.lock /requirements.lock
RUN python3.11 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /requirements.lock

# hadolint ignore=DL3006
FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /tmp sentiment \
    && install --directory --owner=10001 --group=10001 /artifacts
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY deploy/entrypoint.sh /entrypoint.sh
COPY text_cleaning.py sentiment_mlflow_optuna.py ml_orchestration_flipkart.py data.csv ./
COPY sentiment sentiment
RUN /opt/venv/bin/python -m compileall -q .
ARG COMMIT=unknown
LABEL org.opencontainers.image.revision="${COMMIT}"
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_UI_STATIC_DIRECTORY=/tmp/prefect-ui \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    DO_NOT_TRACK=true \
    SENTIMENT_COMMIT=${COMMIT}
USER 10001:10001
ENTRYPOINT ["/entrypoint.sh"]
CMD ["python", "-m", "sentiment", "--help"]
