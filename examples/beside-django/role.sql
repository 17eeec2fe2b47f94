-- As a superuser; in the database that Haulage's schema is in.
CREATE ROLE office LOGIN PASSWORD 'choose-another';
CREATE SCHEMA AUTHORIZATION office;
GRANT USAGE ON SCHEMA corporate TO office;
GRANT EXECUTE ON FUNCTION corporate.enqueue_upload(bigint, text, text) TO office;
