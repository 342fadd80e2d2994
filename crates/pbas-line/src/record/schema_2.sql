CREATE TABLE files (
  part     INTEGER PRIMARY KEY,
  folder   BLOB    NOT NULL,
  path     BLOB    NOT NULL,
  size     INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  sha256   TEXT    NOT NULL,
  moved_to BLOB
) STRICT;
CREATE UNIQUE INDEX files_once ON files (path, size, mtime_ns, sha256);

CREATE TABLE actions (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  part    INTEGER NOT NULL REFERENCES parts (id),
  kind    TEXT    NOT NULL,
  done_us INTEGER,
  error   TEXT
) STRICT;
CREATE INDEX actions_open ON actions (id) WHERE done_us IS NULL;
CREATE INDEX actions_by_part ON actions (part);
