"""As much of psql as the examples need, where there is none: python -m examples.sql URL FILE."""

import sys
from pathlib import Path

import psycopg2

url, file = sys.argv[1:]
with psycopg2.connect(url) as connection, connection.cursor() as cursor:
    cursor.execute(Path(file).read_text())
