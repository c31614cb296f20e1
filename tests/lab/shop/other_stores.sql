-- The rows that name the uploads. Idempotent; run as the superuser in database shop, whose default privileges let the
-- backend write.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS app.uploads (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path text NOT NULL UNIQUE,
    size bigint NOT NULL CHECK (size >= 0),
    sha256 char(64) NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE app.uploads IS 'one row per file in the volume "uploads"; the row is written after the file';
