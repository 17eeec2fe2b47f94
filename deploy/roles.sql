-- Runs once, as a superuser, by psql 15 or newer: one role for migrations, one for each kind of process, and the database.
-- Passwords come through the environment, since command lines can be read by everybody.
\getenv owner OWNER_PASSWORD
\getenv web WEB_PASSWORD
\getenv worker WORKER_PASSWORD
CREATE ROLE haulage_owner LOGIN PASSWORD :'owner';
CREATE ROLE haulage_web LOGIN PASSWORD :'web';
CREATE ROLE haulage_worker LOGIN PASSWORD :'worker';
-- So that the operations page and the metrics see how the workers' sessions do, and whether they have TLS.
GRANT pg_read_all_stats TO haulage_web;
CREATE DATABASE haulage OWNER haulage_owner;
