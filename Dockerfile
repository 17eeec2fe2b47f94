# One image for every process of Haulage: web, worker, beat, Flower, the command.
FROM python:3.13-slim-bookworm

RUN useradd --system --uid 10001 --create-home haulage \
    && install -d -o haulage -g haulage /srv/staging /srv/inbox /srv/drive
WORKDIR /haulage
COPY pyproject.toml constraints.txt README.md LICENSE celeryconfig.py ./
COPY app app
COPY tasks tasks
COPY deploy deploy
# Everything at exactly these versions, with these hashes; the project itself last, without asking for anything more.
RUN pip install --no-cache-dir --require-hashes -r constraints.txt \
    && pip install --no-cache-dir --no-deps --no-build-isolation .

USER haulage
ENV PYTHONUNBUFFERED=1 STAGING_DIR=/srv/staging INBOX_DIR=/srv/inbox DRIVE_DIR=/srv/drive
ENTRYPOINT []
CMD ["haulage", "--help"]
