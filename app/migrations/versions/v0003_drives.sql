-- Everything here is added; the release before goes on working beside it, as long as no corporation is on another drive than
-- its own. Columns with a constant default rewrite no table.

ALTER TABLE corporate.corporations ADD COLUMN drive TEXT NOT NULL DEFAULT 'filesystem';

CREATE TABLE corporate.drives (
    name TEXT NOT NULL,
    paused_until TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_drives PRIMARY KEY (name)
);

CREATE TABLE corporate.drive_requests (
    drive TEXT NOT NULL,
    minute TIMESTAMP WITH TIME ZONE NOT NULL,
    process TEXT NOT NULL,
    requests BIGINT NOT NULL,
    units BIGINT NOT NULL,
    CONSTRAINT pk_drive_requests PRIMARY KEY (drive, minute, process)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_web') THEN
        GRANT SELECT ON corporate.drives, corporate.drive_requests TO haulage_web;
        GRANT INSERT, UPDATE ON corporate.drive_requests TO haulage_web;
        GRANT INSERT, UPDATE ON corporate.drives TO haulage_web;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_worker') THEN
        GRANT SELECT, INSERT, UPDATE ON corporate.drives TO haulage_worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON corporate.drive_requests TO haulage_worker;
    END IF;
END
$$;
