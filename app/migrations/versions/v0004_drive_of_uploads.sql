-- Everything here is added, as in 0003. A revision of its own: one transaction that locked both corporations and uploads would
-- sooner or later be part of a deadlock, since processes at work lock these two in either order.

ALTER TABLE corporate.uploads
    ADD COLUMN drive TEXT NOT NULL DEFAULT 'filesystem',
    ADD COLUMN quick_xor TEXT,
    ADD COLUMN drive_token UUID,
    -- 0.2.0 claims without it; whatever the drive, it would put the file into its own, and call it stored.
    ADD CONSTRAINT ck_uploads_claimed_knowing_drives
        CHECK (drive = 'filesystem' OR token IS NULL OR token IS NOT DISTINCT FROM drive_token) NOT VALID;

-- A corporation's drive never changes, so an upload may keep it: every door, and every release, inserts through here.
CREATE FUNCTION corporate.give_drive() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    SELECT coalesce(max(c.drive), NEW.drive) INTO NEW.drive
        FROM corporate.corporations c WHERE c.corp_index = NEW.corp_index;
    RETURN NEW;
END
$$;
CREATE TRIGGER give_drive BEFORE INSERT ON corporate.uploads FOR EACH ROW EXECUTE FUNCTION corporate.give_drive();
