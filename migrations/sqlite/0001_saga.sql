-- The tables of saga-core. Ids are lower-case UUID text and times are RFC 3339 in UTC with six decimals, always of the
-- same width, so that both can be read in the sqlite3 shell and compared as text.

-- What each saga instance is now: one row an instance, its version compared and swapped at each step.
CREATE TABLE saga_instances (
    id          TEXT    NOT NULL,
    saga        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    data        TEXT    NOT NULL, -- the saga's data, JSON
    timers      TEXT    NOT NULL, -- the running timers, a JSON object: message name -> token
    retry_count INTEGER NOT NULL DEFAULT 0,
    fault       TEXT,             -- the failure that made one of its messages a dead letter and was not mended since
    created_at  TEXT    NOT NULL,
    updated_at  TEXT    NOT NULL,
    PRIMARY KEY (id, saga)
) STRICT, WITHOUT ROWID;

-- What happened to each instance, message by message, in the order of `seq`. Outlives the instance's completion.
CREATE TABLE saga_journal (
    seq             INTEGER PRIMARY KEY,
    instance_id     TEXT    NOT NULL,
    saga            TEXT    NOT NULL,
    version         INTEGER,          -- the version after the step, NULL where it took none
    endpoint        TEXT    NOT NULL,
    message_id      TEXT    NOT NULL,
    message_type    TEXT    NOT NULL,
    message         TEXT    NOT NULL, -- the message's body, JSON
    conversation_id TEXT    NOT NULL,
    initiator_id    TEXT,
    user_id         TEXT,
    attempt         INTEGER NOT NULL,
    outcome         TEXT    NOT NULL, -- moved, ignored, deferred, retried, rejected or faulted
    from_state      TEXT,
    to_state        TEXT,
    effects         TEXT    NOT NULL, -- what it caused, a JSON array
    error           TEXT,
    at              TEXT    NOT NULL
) STRICT;

-- The history of one instance. The rows of an index are in the order of `seq` by themselves.
CREATE INDEX saga_journal_instance ON saga_journal (instance_id);

-- "This endpoint has handled this message": what makes a second delivery harmless.
CREATE TABLE saga_inbox (
    message_id TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    handled_at TEXT NOT NULL,
    PRIMARY KEY (message_id, endpoint)
) STRICT, WITHOUT ROWID;

-- Messages that are to be sent, in the order of `id`; a row is deleted when the bus has confirmed it. AUTOINCREMENT
-- keeps an id from being given twice, although the rows are gone.
CREATE TABLE saga_outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id   TEXT NOT NULL,
    message_type TEXT NOT NULL,
    destination  TEXT,             -- the endpoint it is sent to, NULL where it is published
    envelope     TEXT NOT NULL,    -- the whole message, JSON
    created_at   TEXT NOT NULL
) STRICT;

-- Messages that are to be delivered later: timers of sagas, and further attempts.
CREATE TABLE saga_timers (
    token        TEXT NOT NULL PRIMARY KEY,
    kind         TEXT NOT NULL,    -- timer or redelivery
    endpoint     TEXT NOT NULL,
    due          TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    message_type TEXT NOT NULL,
    envelope     TEXT NOT NULL,    -- the whole message, JSON
    created_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Which timers are due, and when the next one is.
CREATE INDEX saga_timers_due ON saga_timers (due);

-- Messages that nobody could handle, with what is needed to understand them and to try again.
CREATE TABLE saga_dead_letters (
    id           TEXT    NOT NULL PRIMARY KEY,
    endpoint     TEXT    NOT NULL,
    saga         TEXT,
    reason       TEXT    NOT NULL, -- what kind of failure it was
    error        TEXT    NOT NULL, -- what was wrong
    attempts     INTEGER NOT NULL,
    message_id   TEXT    NOT NULL,
    message_type TEXT    NOT NULL,
    envelope     TEXT    NOT NULL, -- the whole message, JSON
    at           TEXT    NOT NULL,
    redriven_at  TEXT              -- when an operator took it out again
) STRICT;

-- The list an operator looks at: newest first, without those that were redriven.
CREATE INDEX saga_dead_letters_open ON saga_dead_letters (at, id) WHERE redriven_at IS NULL;
