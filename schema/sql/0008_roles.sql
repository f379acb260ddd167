-- Rights by rules: what a role may do with an object follows from the kind of the object, so that what later migrations bring is covered.
--
-- The roles are those to whom `historian db grant` has given default privileges in this schema: with INSERT on tables it is a server's role, else a reader's. Makes the
-- rights of each exactly these, and touches only what differs. Every migration ends with it; whoever owns the schema may call it, and nobody else is let.
CREATE FUNCTION historian.apply_rights() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    object record;
BEGIN
    -- what runs with its owner's rights is for those alone who are named, and must not find anything of theirs on its way
    FOR object IN
        SELECT p.oid::regprocedure AS name, p.prosecdef, p.proconfig FROM pg_proc p
        WHERE p.pronamespace = 'historian'::regnamespace AND (p.prosecdef OR p.proname = 'apply_rights')
    LOOP
        IF object.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(object.proconfig, '{}')) THEN
            RAISE EXCEPTION 'function % is SECURITY DEFINER without SET search_path = pg_catalog, pg_temp', object.name;
        END IF;
        IF has_function_privilege('public', object.name, 'EXECUTE') THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', object.name);
        END IF;
    END LOOP;

    FOR object IN
        WITH grantee AS (
            SELECT a.grantee AS oid, bool_or(a.privilege_type = 'INSERT') AS writes
            FROM pg_default_acl d, aclexplode(d.defaclacl) a
            WHERE d.defaclnamespace = 'historian'::regnamespace AND d.defaclobjtype = 'r' AND a.grantee NOT IN (0, d.defaclrole)
            GROUP BY 1
        ), wanted AS (
            SELECT 'SCHEMA' AS kind, 'historian' AS name, g.oid, ARRAY['USAGE'] AS rights, n.nspacl AS acl, acldefault('n', n.nspowner) AS made_with
            FROM grantee g, pg_namespace n WHERE n.nspname = 'historian'
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, g.oid,
                CASE
                    WHEN NOT g.writes OR c.relkind IN ('v', 'm') OR c.relname = 'migration' THEN ARRAY['SELECT']
                    WHEN c.relkind = 'S' THEN ARRAY['SELECT', 'USAGE']
                    ELSE ARRAY['DELETE', 'INSERT', 'SELECT', 'UPDATE']
                END, c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)
            FROM grantee g, pg_class c WHERE c.relnamespace = 'historian'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
            UNION ALL
            SELECT 'ROUTINE', p.oid::regprocedure::text, g.oid,
                CASE WHEN p.proname = 'apply_rights' OR (p.prosecdef AND NOT g.writes) THEN ARRAY[]::text[] ELSE ARRAY['EXECUTE'] END,
                p.proacl, acldefault('f', p.proowner)
            FROM grantee g, pg_proc p WHERE p.pronamespace = 'historian'::regnamespace AND p.prokind IN ('f', 'p')
        )
        SELECT w.kind, w.name, w.oid::regrole AS who, w.rights, has.rights AS standing
        FROM wanted w, LATERAL (
            SELECT coalesce(array_agg(a.privilege_type ORDER BY a.privilege_type), '{}') AS rights
            FROM aclexplode(coalesce(w.acl, w.made_with)) a WHERE a.grantee = w.oid
        ) has
        WHERE has.rights <> w.rights
    LOOP
        IF NOT object.standing <@ object.rights THEN
            EXECUTE format('REVOKE ALL ON %s %s FROM %s', object.kind, object.name, object.who);
        END IF;
        IF cardinality(object.rights) > 0 THEN
            EXECUTE format('GRANT %s ON %s %s TO %s', array_to_string(object.rights, ', '), object.kind, object.name, object.who);
        END IF;
    END LOOP;
END $$;
