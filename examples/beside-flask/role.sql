-- As a superuser; in the database that Haulage's schema is in.
CREATE ROLE invoices LOGIN PASSWORD 'choose-another';
CREATE SCHEMA AUTHORIZATION invoices;
GRANT USAGE ON SCHEMA corporate TO invoices;
GRANT EXECUTE ON FUNCTION corporate.enqueue_upload(bigint, text, text) TO invoices;
