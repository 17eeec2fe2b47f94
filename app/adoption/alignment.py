"""SQL that writes SQL: the statements that bring corporate.vmb_items into line with a table that the migrations made.

That one stands in the schema haulage_reference meanwhile. The queries give statements to run, in their order; none of
them drops anything that held a row or kept a rule, but for the reference itself.
"""

from sqlalchemy import text

# For the migrations to run as they always do the other application's table stands aside, with its indexes.
STAND_ASIDE = (
    "CREATE SCHEMA haulage_theirs",
    "ALTER TABLE corporate.vmb_items SET SCHEMA haulage_theirs",
)
COME_BACK = (
    "CREATE SCHEMA haulage_reference",
    "ALTER TABLE corporate.vmb_items SET SCHEMA haulage_reference",
    "ALTER TABLE haulage_theirs.vmb_items SET SCHEMA corporate",
    "DROP SCHEMA haulage_theirs",
)
# What the queries below look at: both tables as they are at the time, with the reference's definitions as if it stood
# in the other's place. By name: a view that held the reference would keep it from being dropped.
LOOK_AT_BOTH = (
    """
    CREATE TEMP VIEW haulage_columns AS
    SELECT attrelid = to_regclass('haulage_reference.vmb_items')::oid AS is_ours, attrelid, attnum, attname, attnotnull,
           attidentity, format_type(atttypid, atttypmod) AS type, pg_get_expr(adbin, adrelid) AS value
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid IN (to_regclass('haulage_reference.vmb_items'), to_regclass('corporate.vmb_items'))
        AND attnum > 0 AND NOT attisdropped
    """,
    """
    CREATE TEMP VIEW haulage_rules AS
    SELECT conrelid = to_regclass('haulage_reference.vmb_items')::oid AS is_ours, conname, contype,
           replace(pg_get_constraintdef(oid), ' haulage_reference.', ' corporate.') AS definition
    FROM pg_constraint WHERE contype IN ('p', 'u', 'c', 'f', 'x')
        AND conrelid IN (to_regclass('haulage_reference.vmb_items'), to_regclass('corporate.vmb_items'))
    """,
    """
    CREATE TEMP VIEW haulage_indexes AS
    SELECT indrelid = to_regclass('haulage_reference.vmb_items')::oid AS is_ours, relname,
           replace(pg_get_indexdef(indexrelid), ' haulage_reference.', ' corporate.') AS definition
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid IN (to_regclass('haulage_reference.vmb_items'), to_regclass('corporate.vmb_items'))
    """,
    # Those that number the column id: as its identity, as a serial's, or in its default.
    """
    CREATE TEMP VIEW haulage_sequences AS
    SELECT DISTINCT s.oid FROM pg_attribute a
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    JOIN pg_depend ON (classid, refclassid, refobjid, refobjsubid)
                = ('pg_class'::regclass, 'pg_class'::regclass, attrelid, attnum)
        OR (classid, refclassid, pg_depend.objid) = ('pg_attrdef'::regclass, 'pg_class'::regclass, pg_attrdef.oid)
    JOIN pg_class s ON s.oid IN (pg_depend.objid, pg_depend.refobjid)
    WHERE attrelid = to_regclass('corporate.vmb_items') AND attname = 'id'
        AND CASE relkind WHEN 'S' THEN has_sequence_privilege(s.oid, 'SELECT') END
    """,
)
DROP_REFERENCE = (
    "DROP VIEW pg_temp.haulage_columns, pg_temp.haulage_rules, pg_temp.haulage_indexes, pg_temp.haulage_sequences",
    "DROP TABLE haulage_reference.vmb_items",
    "DROP SCHEMA haulage_reference",
)

_TYPES = text("""
    SELECT format('ALTER TABLE corporate.vmb_items ALTER COLUMN %I TYPE %s', attname, o.type)
    FROM haulage_columns o JOIN haulage_columns t USING (attname)
    WHERE o.is_ours AND NOT t.is_ours AND o.type <> t.type
""")
_COLUMNS = text("""
    SELECT format('ALTER TABLE corporate.vmb_items ADD COLUMN %I %s%s', attname, type,
        CASE WHEN attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE ' DEFAULT ' || value END)
    FROM haulage_columns WHERE is_ours AND attname NOT IN (SELECT attname FROM haulage_columns WHERE NOT is_ours)
    ORDER BY attnum
""")
# A serial's sequence stays, unused. Numbers go on behind the highest, and behind what any sequence has given out.
_NUMBERING = text("""
    SELECT unnest(CASE WHEN o.attidentity = t.attidentity THEN '{}' ELSE ARRAY[
        (SELECT format('ALTER SEQUENCE %s OWNED BY NONE', objid::regclass)
            FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
            WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'a'
                AND refobjid = t.attrelid AND refobjsubid = t.attnum),
        CASE WHEN t.value IS NOT NULL THEN 'ALTER TABLE corporate.vmb_items ALTER COLUMN id DROP DEFAULT' END,
        'ALTER TABLE corporate.vmb_items ALTER COLUMN id SET NOT NULL',
        CASE t.attidentity WHEN '' THEN 'ALTER TABLE corporate.vmb_items ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY'
            ELSE 'ALTER TABLE corporate.vmb_items ALTER COLUMN id SET GENERATED ALWAYS' END
    ] END || format(
        'DO $haulage$ BEGIN EXECUTE (SELECT format('
            '''ALTER TABLE corporate.vmb_items ALTER COLUMN id RESTART WITH %%s'', max(next))'
            ' FROM (SELECT 1 UNION ALL SELECT max(id) + 1 FROM corporate.vmb_items%s) AS numbers (next)); END $haulage$',
        (SELECT string_agg(format(' UNION ALL SELECT last_value + is_called::int FROM %s', s.oid::regclass), '')
            FROM pg_class s JOIN haulage_sequences USING (oid))
    ))
    FROM haulage_columns o JOIN haulage_columns t USING (attname)
    WHERE attname = 'id' AND o.is_ours AND NOT t.is_ours
""")
_DEFAULTS = text("""
    SELECT format('ALTER TABLE corporate.vmb_items ALTER COLUMN %I SET DEFAULT %s', attname, o.value)
    FROM haulage_columns o JOIN haulage_columns t USING (attname)
    WHERE o.is_ours AND NOT t.is_ours AND o.value IS NOT NULL AND t.value IS NULL
""")
BEFORE_THE_ROWS = (_TYPES, _COLUMNS, _NUMBERING, _DEFAULTS)

CORPORATIONS = text("""
    INSERT INTO corporate.corporations (corp_index, name)
        SELECT DISTINCT corp_index::bigint, 'Corporation ' || corp_index FROM haulage_future
""")
ROOTS = text("""
    INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, name, name_key, kind, child_count)
        SELECT corp_index::bigint, corp_index, corp_index, corp_index, 'folder',
               count(*) FILTER (WHERE parent_id = corp_index) FROM haulage_future
        GROUP BY corp_index HAVING NOT bool_or(is_root)
""")
ROWS = text("""
    UPDATE corporate.vmb_items v SET parent_id = f.parent_id, name_key = f.name_key, kind = f.new_kind,
        created_at = coalesce(v.created_at, now()), changed_at = coalesce(v.changed_at, now())
    FROM haulage_future f
    WHERE v.corp_index = f.corp_index::bigint AND v.onedrive_item_id = f.item_id
        AND ((v.parent_id, v.name_key, v.kind) IS DISTINCT FROM (f.parent_id, f.name_key, f.new_kind)
             OR v.created_at IS NULL OR v.changed_at IS NULL)
""")
# No row can come meanwhile: the table is locked. Gives the counts that were wrong.
RECOUNT = text("""
    WITH counted AS (
        SELECT p.id, p.child_count AS noted, count(c.id) AS children
        FROM corporate.vmb_items p
        LEFT JOIN corporate.vmb_items c ON c.corp_index = p.corp_index AND c.parent_id = p.onedrive_item_id
        GROUP BY p.id, p.child_count
    ), corrected AS (
        UPDATE corporate.vmb_items v SET child_count = counted.children FROM counted
        WHERE counted.id = v.id AND v.child_count IS DISTINCT FROM counted.children
        RETURNING v.corp_index, v.onedrive_item_id, coalesce(counted.noted::text, 'NULL') AS noted, counted.children
    )
    SELECT * FROM corrected ORDER BY 1, 2
""")
CORP_INDEXES = text("SELECT corp_index FROM corporate.corporations ORDER BY 1")

_NOT_NULL = text("""
    SELECT format('ALTER TABLE corporate.vmb_items ALTER COLUMN %I SET NOT NULL', attname)
    FROM haulage_columns o JOIN haulage_columns t USING (attname)
    WHERE o.is_ours AND NOT t.is_ours AND o.attnotnull AND NOT t.attnotnull
""")
# A primary key on other columns stays, as a UNIQUE constraint of its name.
_PRIMARY_KEY = text("""
    SELECT unnest(ARRAY[
        format('ALTER TABLE corporate.vmb_items DROP CONSTRAINT %I', conname),
        format('ALTER TABLE corporate.vmb_items ADD CONSTRAINT %I %s', conname, replace(definition, 'PRIMARY KEY', 'UNIQUE'))
    ])
    FROM haulage_rules WHERE NOT is_ours AND contype = 'p'
        AND definition NOT IN (SELECT definition FROM haulage_rules WHERE is_ours)
""")
_RENAMED = text("""
    SELECT DISTINCT ON (o.conname)
        format('ALTER TABLE corporate.vmb_items RENAME CONSTRAINT %I TO %I', t.conname, o.conname)
    FROM haulage_rules o JOIN haulage_rules t USING (contype, definition)
    WHERE o.is_ours AND NOT t.is_ours AND contype <> 'c'
        AND o.conname NOT IN (SELECT conname FROM haulage_rules WHERE NOT is_ours)
    ORDER BY o.conname, t.conname
""")
_RULES = text("""
    SELECT format('ALTER TABLE corporate.vmb_items ADD CONSTRAINT %I %s', conname, definition)
    FROM haulage_rules WHERE is_ours AND conname NOT IN (SELECT conname FROM haulage_rules WHERE NOT is_ours)
    ORDER BY strpos('pucf', contype::text), conname
""")
_INDEXES = text("""
    SELECT definition FROM haulage_indexes
    WHERE is_ours AND relname NOT IN (SELECT relname FROM haulage_indexes WHERE NOT is_ours) ORDER BY relname
""")
# What else the migrations tied to their own table.
_FOREIGN_KEYS = text("""
    SELECT unnest(ARRAY[
        format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
            replace(pg_get_constraintdef(oid), ' haulage_reference.', ' corporate.'))
    ])
    FROM pg_constraint
    WHERE contype = 'f' AND confrelid = 'haulage_reference.vmb_items'::regclass AND conrelid <> confrelid
    ORDER BY conname
""")
_GRANTS = text("""
    SELECT format('GRANT %s ON corporate.vmb_items TO %s', privilege_type, grantee::regrole)
    FROM pg_class, aclexplode(relacl)
    WHERE pg_class.oid = 'haulage_reference.vmb_items'::regclass AND grantee <> relowner
    ORDER BY 1
""")
AFTER_THE_ROWS = (_NOT_NULL, _PRIMARY_KEY, _RENAMED, _RULES, _INDEXES, _FOREIGN_KEYS, _GRANTS)

# The migrations let the web read every table of the schema; asked before they run, this gives what takes that back.
NOT_OURS_TO_GRANT = text("""
    SELECT format('REVOKE SELECT ON %s FROM haulage_web', pg_class.oid::regclass)
    FROM pg_class JOIN pg_roles ON rolname = 'haulage_web'
    WHERE relnamespace = 'corporate'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relname <> 'vmb_items'
        AND NOT EXISTS (SELECT FROM aclexplode(relacl) WHERE privilege_type = 'SELECT' AND grantee = pg_roles.oid)
    ORDER BY 1
""")
STILL_DIFFERENT = text("""
    SELECT 'the column ' || attname FROM (
        SELECT attname, type, attnotnull, attidentity FROM haulage_columns WHERE is_ours
        EXCEPT SELECT attname, type, attnotnull, attidentity FROM haulage_columns WHERE NOT is_ours) AS columns
    UNION ALL SELECT 'the constraint ' || conname FROM (
        SELECT conname, definition FROM haulage_rules WHERE is_ours
        EXCEPT SELECT conname, definition FROM haulage_rules WHERE NOT is_ours) AS rules
    UNION ALL SELECT 'the index ' || relname FROM (
        SELECT relname, definition FROM haulage_indexes WHERE is_ours
        EXCEPT SELECT relname, definition FROM haulage_indexes WHERE NOT is_ours) AS indexes
    ORDER BY 1
""")
