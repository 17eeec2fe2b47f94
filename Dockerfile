# One image for every process of Haulage: web, worker, beat, Flower, the command. Nothing that only tests need gets in.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY constraints.txt ./
# Every package at exactly this version, with one of these hashes.
RUN pip wheel --no-cache-dir --require-hashes --requirement constraints.txt --wheel-dir wheels
COPY pyproject.toml README.md LICENSE celeryconfig.py ./
COPY app app
COPY tasks tasks
RUN pip install --no-cache-dir --upgrade --no-index --find-links wheels setuptools \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels .
# From these wheels alone, and of them only what Haulage asks for when it runs.
RUN python -m venv /opt/haulage \
    && /opt/haulage/bin/pip install --no-cache-dir --upgrade --upgrade-strategy eager --no-index --find-links wheels haulage

FROM python:3.11.14-slim-bookworm
RUN groupadd --system --gid 10001 haulage \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent haulage \
    && install -d -o haulage -g haulage /srv/staging /srv/inbox /srv/drive
COPY --from=build /opt/haulage /opt/haulage
ENV PATH=/opt/haulage/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 STAGING_DIR=/srv/staging INBOX_DIR=/srv/inbox DRIVE_DIR=/srv/drive
WORKDIR /srv
USER 10001:10001
CMD ["haulage", "--help"]
