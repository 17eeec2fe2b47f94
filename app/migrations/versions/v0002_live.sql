-- Everything here is added; the release before goes on working beside it. The first two statements lock whole tables, for
-- as long as the rest takes, which is not long: it reads no table.

-- An operator's token belongs to no corporation; the release before finds none for it and refuses.
ALTER TABLE corporate.api_tokens ALTER COLUMN corp_index DROP NOT NULL;

-- A column that N-1 does not write stays NULL: whoever reads it takes that for "not known".
ALTER TABLE corporate.uploads
    ADD COLUMN request_id TEXT,
    ADD COLUMN began_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN began_from BIGINT,
    ADD COLUMN sent BIGINT,
    ADD COLUMN sent_at TIMESTAMP WITH TIME ZONE;

-- Events added up, as far as the horizon; those behind it are added when somebody asks. No commit waits for a count.
CREATE TABLE corporate.tallies (
    what TEXT NOT NULL,
    drive TEXT NOT NULL,
    amount BIGINT NOT NULL,
    CONSTRAINT pk_tallies PRIMARY KEY (what, drive)
);
CREATE TABLE corporate.tally_horizon (
    one_row BOOLEAN NOT NULL,
    xid xid8 NOT NULL,
    CONSTRAINT pk_tally_horizon PRIMARY KEY (one_row),
    CONSTRAINT ck_tally_horizon_only_one CHECK (one_row)
);
INSERT INTO corporate.tally_horizon VALUES (true, '0');

-- An event counts by its kind; a stored upload counts its bytes too, and the milliseconds of the attempt that stored it.
CREATE FUNCTION corporate.sum_events(first xid8, horizon xid8) RETURNS TABLE (what text, drive text, amount bigint)
LANGUAGE sql STABLE AS $$
    SELECT counted.what, coalesce(event.detail->>'drive', ''), sum(counted.amount)::bigint
    FROM corporate.upload_events event
    CROSS JOIN LATERAL (VALUES
        (event.kind, 1),
        ('bytes', (event.detail->>'bytes')::bigint),
        ('milliseconds', (event.detail->>'milliseconds')::bigint)
    ) AS counted (what, amount)
    WHERE event.xid >= first AND event.xid < horizon AND counted.amount IS NOT NULL
    GROUP BY 1, 2
$$;

-- Fold events into the tallies, about so many at a time; true if there are more. The horizon never passes a transaction
-- that is still running: none of its events is left out.
CREATE FUNCTION corporate.fold_tallies(about bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    first xid8;
    horizon xid8;
    there xid8;
BEGIN
    SELECT h.xid INTO first FROM corporate.tally_horizon h FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    there := pg_snapshot_xmin(pg_current_snapshot());
    IF there <= first THEN  -- a dump restored elsewhere brings transactions that are yet to come
        RETURN false;
    END IF;
    SELECT e.xid INTO horizon FROM corporate.upload_events e WHERE e.xid > first ORDER BY e.xid OFFSET about LIMIT 1;
    IF horizon IS NULL OR horizon > there THEN
        horizon := there;
    END IF;
    INSERT INTO corporate.tallies AS t (what, drive, amount)
        SELECT s.what, s.drive, s.amount FROM corporate.sum_events(first, horizon) s ORDER BY 1, 2
        ON CONFLICT (what, drive) DO UPDATE SET amount = t.amount + excluded.amount;
    UPDATE corporate.tally_horizon SET xid = horizon;
    RETURN horizon < there;
END
$$;

CREATE VIEW corporate.totals AS
    SELECT what, drive, sum(amount)::bigint AS amount
    FROM (
        SELECT what, drive, amount FROM corporate.tallies
        UNION ALL
        SELECT s.what, s.drive, s.amount
            FROM corporate.tally_horizon h, corporate.sum_events(h.xid, '18446744073709551615') s
    ) AS both_sides
    GROUP BY what, drive;

-- Folders are made by the web too, which may not write items otherwise. Gives the id of the folder that is there then,
-- and whether it is new; raises 23505 if a file stands in its place, or if another item has its id.
CREATE FUNCTION corporate.record_folder(
    corp_index bigint, drive_item_id text, parent_id text, name text, name_key text, drive_info jsonb,
    OUT folder_id text, OUT is_new boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_kind text;
BEGIN
    IF NOT EXISTS (
        SELECT FROM corporate.vmb_items i
            WHERE i.corp_index = record_folder.corp_index AND i.onedrive_item_id = record_folder.parent_id
                AND i.kind = 'folder'
    ) THEN
        RAISE EXCEPTION 'the parent is not a folder of this corporation' USING ERRCODE = '22023';
    END IF;
    INSERT INTO corporate.vmb_items AS i (corp_index, onedrive_item_id, parent_id, name, name_key, kind, drive_info)
        VALUES (record_folder.corp_index, drive_item_id, record_folder.parent_id, record_folder.name,
                record_folder.name_key, 'folder', record_folder.drive_info)
        ON CONFLICT DO NOTHING
        RETURNING i.onedrive_item_id INTO folder_id;
    is_new := folder_id IS NOT NULL;
    IF is_new THEN
        UPDATE corporate.vmb_items i SET child_count = child_count + 1
            WHERE i.corp_index = record_folder.corp_index AND i.onedrive_item_id = record_folder.parent_id;
        RETURN;
    END IF;
    SELECT i.onedrive_item_id, i.kind INTO folder_id, found_kind FROM corporate.vmb_items i
        WHERE i.corp_index = record_folder.corp_index AND i.parent_id = record_folder.parent_id
            AND i.name_key = record_folder.name_key;
    IF found_kind IS DISTINCT FROM 'folder' THEN
        RAISE EXCEPTION 'something else is in the place of this folder' USING ERRCODE = '23505';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION corporate.record_folder(bigint, text, text, text, text, jsonb) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_web') THEN
        GRANT SELECT ON corporate.tally_horizon, corporate.totals TO haulage_web;
        GRANT SELECT, INSERT, UPDATE ON corporate.tallies TO haulage_web;
        GRANT EXECUTE ON FUNCTION corporate.record_folder(bigint, text, text, text, text, jsonb) TO haulage_web;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'haulage_worker') THEN
        GRANT SELECT ON corporate.totals TO haulage_worker;
        GRANT SELECT, UPDATE ON corporate.tally_horizon TO haulage_worker;
        GRANT SELECT, INSERT, UPDATE ON corporate.tallies TO haulage_worker;
        GRANT EXECUTE ON FUNCTION corporate.record_folder(bigint, text, text, text, text, jsonb) TO haulage_worker;
    END IF;
END
$$;
