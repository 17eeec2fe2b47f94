-- The rules of the catalogue are constraints, so that they hold for every writer.

CREATE TABLE corporate.corporations (
    corp_index BIGINT NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_corporations PRIMARY KEY (corp_index),
    CONSTRAINT ck_corporations_positive CHECK (corp_index > 0)
);

CREATE TABLE corporate.upkeep_runs (
    task TEXT NOT NULL,
    ran_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_upkeep_runs PRIMARY KEY (task)
);

CREATE TABLE corporate.staging_identity (
    one_row BOOLEAN NOT NULL,
    identity UUID NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_staging_identity PRIMARY KEY (one_row),
    CONSTRAINT ck_staging_identity_only_one CHECK (one_row)
);

CREATE TABLE corporate.api_tokens (
    id UUID NOT NULL,
    corp_index BIGINT NOT NULL,
    label TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_tokens PRIMARY KEY (id),
    CONSTRAINT fk_api_tokens_corp_index FOREIGN KEY(corp_index) REFERENCES corporate.corporations (corp_index),
    CONSTRAINT uq_api_tokens_sha256 UNIQUE (sha256)
);

CREATE TABLE corporate.vmb_items (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    corp_index BIGINT NOT NULL,
    onedrive_item_id TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    child_count BIGINT DEFAULT 0 NOT NULL,
    size BIGINT,
    sha256 TEXT,
    drive_info JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_vmb_items PRIMARY KEY (id),
    CONSTRAINT uq_vmb_items_corp_index_onedrive_item_id UNIQUE (corp_index, onedrive_item_id),
    CONSTRAINT uq_vmb_items_corp_index_parent_id_name_key UNIQUE (corp_index, parent_id, name_key),
    CONSTRAINT fk_vmb_items_corp_index_parent_id FOREIGN KEY(corp_index, parent_id) REFERENCES corporate.vmb_items (corp_index, onedrive_item_id),
    CONSTRAINT ck_vmb_items_child_count_not_negative CHECK (child_count >= 0),
    CONSTRAINT ck_vmb_items_only_folders_have_children CHECK (kind = 'folder' OR child_count = 0),
    CONSTRAINT ck_vmb_items_root_is_a_folder CHECK (parent_id IS NOT NULL OR kind = 'folder'),
    CONSTRAINT ck_vmb_items_size_not_negative CHECK (size >= 0),
    CONSTRAINT ck_vmb_items_sha256_is_hexadecimal CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_vmb_items_kind_known CHECK (kind IN ('file', 'folder')),
    CONSTRAINT fk_vmb_items_corp_index FOREIGN KEY(corp_index) REFERENCES corporate.corporations (corp_index)
);
CREATE UNIQUE INDEX uq_vmb_items_root ON corporate.vmb_items (corp_index) WHERE parent_id IS NULL;

CREATE TABLE corporate.uploads (
    id UUID NOT NULL,
    corp_index BIGINT NOT NULL,
    state TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    folder TEXT[] NOT NULL,
    name TEXT NOT NULL,
    on_conflict TEXT NOT NULL,
    inbox_path TEXT,
    staged_id UUID,
    size BIGINT,
    sha256 TEXT,
    idempotency_key TEXT,
    task_id TEXT,
    token UUID,
    attempts BIGINT DEFAULT 0 NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    woken_at TIMESTAMP WITH TIME ZONE,
    deadline_at TIMESTAMP WITH TIME ZONE,
    cancel_requested BOOLEAN DEFAULT false NOT NULL,
    drive_session JSONB,
    transferred BIGINT DEFAULT 0 NOT NULL,
    reserved_parent_id TEXT,
    reserved_name TEXT,
    reserved_key TEXT,
    item_id TEXT,
    reason TEXT,
    message TEXT,
    cleanup_due_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_uploads PRIMARY KEY (id),
    CONSTRAINT uq_uploads_corp_index_id UNIQUE (corp_index, id),
    CONSTRAINT uq_uploads_corp_index_idempotency_key UNIQUE (corp_index, idempotency_key),
    CONSTRAINT fk_uploads_corp_index_parent_id FOREIGN KEY(corp_index, parent_id) REFERENCES corporate.vmb_items (corp_index, onedrive_item_id),
    CONSTRAINT fk_uploads_corp_index_item_id FOREIGN KEY(corp_index, item_id) REFERENCES corporate.vmb_items (corp_index, onedrive_item_id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT ck_uploads_state_known CHECK (state IN ('receiving', 'queued', 'transferring', 'stored', 'failed', 'cancelled', 'expired')),
    CONSTRAINT ck_uploads_on_conflict_known CHECK (on_conflict IN ('fail', 'rename', 'replace')),
    CONSTRAINT ck_uploads_stored_has_its_item CHECK ((state = 'stored') = (item_id IS NOT NULL)),
    CONSTRAINT ck_uploads_transferring_has_its_token CHECK (state <> 'transferring' OR token IS NOT NULL),
    CONSTRAINT ck_uploads_failed_has_its_reason CHECK (state <> 'failed' OR reason IS NOT NULL),
    CONSTRAINT ck_uploads_has_bytes CHECK (staged_id IS NOT NULL OR inbox_path IS NOT NULL OR finished_at IS NOT NULL),
    CONSTRAINT ck_uploads_staged_is_measured CHECK ((staged_id IS NULL) OR (size IS NOT NULL AND sha256 IS NOT NULL)),
    CONSTRAINT ck_uploads_size_not_negative CHECK (size >= 0),
    CONSTRAINT ck_uploads_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT ck_uploads_sha256_is_hexadecimal CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT fk_uploads_corp_index FOREIGN KEY(corp_index) REFERENCES corporate.corporations (corp_index)
);
CREATE INDEX ix_uploads_cleanup_due ON corporate.uploads (cleanup_due_at) WHERE cleanup_due_at IS NOT NULL;
CREATE INDEX ix_uploads_lease ON corporate.uploads (due_at) WHERE state = 'transferring';
CREATE INDEX ix_uploads_deadline ON corporate.uploads (deadline_at) WHERE state = 'queued';
CREATE INDEX ix_uploads_cancel ON corporate.uploads (id) WHERE cancel_requested AND state = 'queued';
CREATE INDEX ix_uploads_failed ON corporate.uploads (corp_index, finished_at) WHERE state = 'failed';
CREATE INDEX ix_uploads_kept ON corporate.uploads (finished_at) WHERE state = 'failed' AND staged_id IS NOT NULL;
CREATE INDEX ix_uploads_due ON corporate.uploads (due_at) WHERE state IN ('queued', 'transferring');
CREATE INDEX ix_uploads_staged_id ON corporate.uploads (staged_id) WHERE staged_id IS NOT NULL;
CREATE UNIQUE INDEX uq_uploads_reserved ON corporate.uploads (corp_index, reserved_parent_id, reserved_key) WHERE reserved_key IS NOT NULL;

CREATE TABLE corporate.upload_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    corp_index BIGINT NOT NULL,
    upload_id UUID NOT NULL,
    kind TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    detail JSONB,
    CONSTRAINT pk_upload_events PRIMARY KEY (id),
    CONSTRAINT fk_upload_events_corp_index_upload_id FOREIGN KEY(corp_index, upload_id) REFERENCES corporate.uploads (corp_index, id)
);
CREATE INDEX ix_upload_events_upload_id ON corporate.upload_events (upload_id);
CREATE INDEX ix_upload_events_xid ON corporate.upload_events (xid);

-- Events are a record: written once, never changed, never removed.

CREATE FUNCTION corporate.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'corporate.% is append-only', TG_TABLE_NAME USING ERRCODE = '0A000';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON corporate.upload_events
    FOR EACH STATEMENT EXECUTE FUNCTION corporate.refuse_change();

-- The door for other applications: any framework, any language, inside the caller's own transaction.
-- The file lies at INBOX/<corp_index>/<filename>; folders in `filename` become folders below `parent_id`.
-- The arguments are checked here, the file by the worker that takes it.

CREATE FUNCTION corporate.enqueue_upload(corp_index bigint, filename text, parent_id text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := string_to_array(filename, '/');
    target text := enqueue_upload.parent_id;
    upload_id uuid := gen_random_uuid();
BEGIN
    IF NOT EXISTS (SELECT FROM corporate.corporations c WHERE c.corp_index = enqueue_upload.corp_index) THEN
        RAISE EXCEPTION 'there is no corporation %', coalesce(enqueue_upload.corp_index::text, 'NULL')
            USING ERRCODE = '22023', HINT = 'Add it with: haulage corp add';
    END IF;
    IF filename IS NULL OR filename = '' OR octet_length(filename) > 900
        OR EXISTS (SELECT FROM unnest(parts) part WHERE part IN ('', '.', '..') OR octet_length(part) > 255)
    THEN
        RAISE EXCEPTION 'filename must be a path below the corporation''s inbox, without empty, "." or ".." parts'
            USING ERRCODE = '22023', DETAIL = format('It is %L.', filename);
    END IF;
    IF target IS NULL THEN
        SELECT i.onedrive_item_id INTO STRICT target FROM corporate.vmb_items i
            WHERE i.corp_index = enqueue_upload.corp_index AND i.parent_id IS NULL;
    ELSIF NOT EXISTS (
        SELECT FROM corporate.vmb_items i
            WHERE i.corp_index = enqueue_upload.corp_index AND i.onedrive_item_id = target AND i.kind = 'folder'
    ) THEN
        RAISE EXCEPTION 'corporation % has no folder with the id %', enqueue_upload.corp_index, quote_literal(target)
            USING ERRCODE = '22023';
    END IF;
    INSERT INTO corporate.uploads (id, corp_index, state, parent_id, folder, name, on_conflict, inbox_path)
        VALUES (upload_id, enqueue_upload.corp_index, 'queued', target, parts[1:cardinality(parts) - 1],
                parts[cardinality(parts)], 'fail', filename);
    INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt, detail)
        VALUES (enqueue_upload.corp_index, upload_id, 'queued', 0, '{"door": "sql"}');
    RETURN upload_id;
END
$$;

REVOKE ALL ON FUNCTION corporate.enqueue_upload(bigint, text, text) FROM PUBLIC;

-- Each role may do what its process does. Roles are made by whoever runs the cluster; where they are missing, one role
-- does everything and the processes say so in a warning.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_web') THEN
        GRANT USAGE ON SCHEMA corporate TO haulage_web;
        GRANT SELECT ON ALL TABLES IN SCHEMA corporate TO haulage_web;
        GRANT INSERT ON corporate.uploads, corporate.upload_events TO haulage_web;
        GRANT UPDATE (woken_at, cancel_requested, state, token, attempts, due_at, deadline_at, reason, message,
                      cleanup_due_at, finished_at) ON corporate.uploads TO haulage_web;
        GRANT EXECUTE ON FUNCTION corporate.enqueue_upload(bigint, text, text) TO haulage_web;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_worker') THEN
        GRANT USAGE ON SCHEMA corporate TO haulage_worker;
        GRANT SELECT ON corporate.corporations, corporate.staging_identity, corporate.alembic_version
            TO haulage_worker;
        GRANT SELECT, INSERT, UPDATE ON corporate.uploads, corporate.vmb_items, corporate.upkeep_runs TO haulage_worker;
        GRANT SELECT, INSERT ON corporate.upload_events TO haulage_worker;
    END IF;
END
$$;
