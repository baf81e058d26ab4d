-- The role of a running host: it may read and write rows, and change nothing else. No migration: run it as the owner of
-- the tables, in their database, when the migrations are applied, and again after each that makes a table.
--
--     psql --dbname=orders --file=migrations/postgres/role.sql
--     psql --dbname=orders --command='\password saga_host'
--
-- Migrate as the owner (`saga-host migrate`), before a new version is started; a host whose tables are all there needs
-- no right to make any.

DO $$
BEGIN
    CREATE ROLE saga_host LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- it is there: roles belong to all databases of a server
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO saga_host', current_database());
    -- Up to PostgreSQL 14 everybody may make tables in `public`, and everybody may make temporary ones.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO saga_host;

-- saga-core. What was handled and what has happened is never changed, only purged; an instance is never deleted.
GRANT SELECT, INSERT, UPDATE, DELETE ON saga_hosts, saga_outbox, saga_timers, saga_dead_letters TO saga_host;
GRANT SELECT, INSERT, DELETE ON saga_inbox, saga_journal TO saga_host;
GRANT SELECT, INSERT, UPDATE ON saga_instances TO saga_host;
GRANT USAGE ON SEQUENCE saga_outbox_id_seq TO saga_host;

-- order-saga.
GRANT SELECT, INSERT, UPDATE ON orders TO saga_host;
GRANT SELECT, INSERT ON order_items, notifications TO saga_host;

-- Which migrations are applied.
GRANT SELECT ON _sqlx_migrations TO saga_host;
