-- The tables of order-saga. As in 0001, ids are lower-case UUID text, and times are RFC 3339 in UTC with six decimals,
-- always of the same width. Money is decimal text.

-- Orders as their users see them. `status` moves in the transaction that moves the saga.
CREATE TABLE orders (
    id            TEXT NOT NULL PRIMARY KEY, -- a UUIDv7: later orders have larger ids
    user_id       TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'expired')),
    total         TEXT NOT NULL,
    submission_id TEXT NOT NULL UNIQUE,      -- the message id of the submission
    fingerprint   TEXT NOT NULL,             -- of the submission's body: the same key with another body is refused
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL              -- when the status changed last
) STRICT, WITHOUT ROWID;

-- A user's page, newest first: read backwards, so that a new order is put at the end and not at the front.
CREATE INDEX orders_user ON orders (user_id, id);

-- What the expiry job looks for, and nothing else: completed and expired orders are not in it.
CREATE INDEX orders_undecided ON orders (updated_at, id) WHERE status IN ('pending', 'processing');

-- What was ordered, in the order of the submission. Written in the transaction that writes the order and never after,
-- so no foreign key is checked on each.
CREATE TABLE order_items (
    order_id   TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    product_id TEXT    NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    price      TEXT    NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;

-- The audit trail: what a user was told. One row of a kind for an order, however often its message is delivered.
CREATE TABLE notifications (
    id              TEXT    NOT NULL,             -- derived from the message it answers
    order_id        TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('completed', 'expired')),
    result          TEXT    NOT NULL,             -- with which result, for people
    message_id      TEXT    NOT NULL,
    conversation_id TEXT    NOT NULL,
    attempts        INTEGER NOT NULL,
    created_at      TEXT    NOT NULL,
    PRIMARY KEY (order_id, kind)
) STRICT, WITHOUT ROWID;
