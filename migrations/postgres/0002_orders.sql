-- The tables of order-saga: the same tables and names as in migrations/sqlite. Money is exact.

-- Orders as their users see them. `status` moves in the transaction that moves the saga.
CREATE TABLE orders (
    id            uuid        NOT NULL PRIMARY KEY, -- a UUIDv7: later orders have larger ids
    user_id       text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'expired')),
    total         numeric     NOT NULL,
    submission_id uuid        NOT NULL UNIQUE,      -- the message id of the submission
    fingerprint   text        NOT NULL,             -- of the submission's body: the same key with another body is refused
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL              -- when the status changed last
);

-- A user's page, newest first: read backwards, so that a new order is put at the end and not at the front.
CREATE INDEX orders_user ON orders (user_id, id);

-- What the expiry job looks for, and nothing else: completed and expired orders are not in it.
CREATE INDEX orders_undecided ON orders (updated_at, id) WHERE status IN ('pending', 'processing');

-- What was ordered, in the order of the submission. Written in the transaction that writes the order and never after,
-- so no foreign key is checked on each.
CREATE TABLE order_items (
    order_id   uuid    NOT NULL,
    position   integer NOT NULL,
    product_id text    NOT NULL,
    quantity   bigint  NOT NULL CHECK (quantity > 0),
    price      numeric NOT NULL,
    PRIMARY KEY (order_id, position)
);

-- The audit trail: what a user was told. One row of a kind for an order, however often its message is delivered.
CREATE TABLE notifications (
    id              uuid        NOT NULL,             -- derived from the message it answers
    order_id        uuid        NOT NULL,
    user_id         text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('completed', 'expired')),
    result          text        NOT NULL,             -- with which result, for people
    message_id      uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    attempts        bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (order_id, kind)
);
