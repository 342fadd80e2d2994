CREATE TABLE parts (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  time_us        INTEGER NOT NULL,
  name           TEXT    NOT NULL,
  size           INTEGER NOT NULL,
  sha256         TEXT    NOT NULL,
  model          TEXT    NOT NULL,
  model_digest   TEXT    NOT NULL,
  error          TEXT,
  verdict        TEXT,
  image_score    REAL,
  threshold      REAL,
  p_value        REAL,
  value          REAL,
  peak           REAL,
  width          INTEGER,
  height         INTEGER,
  regions        TEXT,
  decode_ms      REAL,
  judge_ms       REAL,
  thumbnail_sha256 TEXT,
  map_sha256     TEXT,
  digest         TEXT    NOT NULL,
  CHECK ((error IS NULL) <> (verdict IS NULL))
) STRICT;
CREATE INDEX parts_by_time ON parts (time_us);
CREATE INDEX parts_by_model ON parts (model_digest, id);
CREATE INDEX parts_rejected ON parts (id) WHERE verdict = 'anomalous';

CREATE TABLE pictures (
  part      INTEGER PRIMARY KEY REFERENCES parts (id),
  thumbnail BLOB,
  map       BLOB
) STRICT;

CREATE TABLE reviews (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  part    INTEGER NOT NULL REFERENCES parts (id),
  time_us INTEGER NOT NULL,
  review  TEXT    NOT NULL,
  digest  TEXT    NOT NULL
) STRICT;
CREATE INDEX reviews_by_part ON reviews (part, id);

CREATE TABLE cuts (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  time_us  INTEGER NOT NULL,
  chain    TEXT    NOT NULL,
  first_id INTEGER NOT NULL,
  last_id  INTEGER NOT NULL,
  count    INTEGER NOT NULL,
  before   TEXT    NOT NULL,
  after    TEXT    NOT NULL,
  reason   TEXT    NOT NULL,
  digest   TEXT    NOT NULL
) STRICT;
