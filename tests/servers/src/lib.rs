//! Private PostgreSQL and RabbitMQ servers for tests, and a proxy that cuts them off.
//!
//! A server has its own ports, folder and password, is started from the installed packages, and ends with the process
//! that started it, however that ends: a watchdog holds the other end of a pipe. Everything here blocks and needs no
//! runtime, so that tests which each have their own can share one server.
//!
//! - [`Postgres`], [`Rabbit`]: `shared()` is the one server of a test binary, with a fresh database or virtual host for
//!   each test; `start()` gives a test a server of its own to stop, kill, pause and start again
//! - [`Proxy`]: stands between a client and a server, and cuts, holds, delays or refuses connections
//! - [`free_port`]: for a service of a test's own that has to come back where it was
//! - [`until`]: waits for a condition, with a limit
//!
//! `TEST_DATABASE_URL` and `TEST_AMQP_URL` point `shared()` at servers that already run; see [`Postgres::shared`] and
//! [`Rabbit::shared`]. Whatever cannot be had is a panic that says what to do: no test is skipped.

mod folder;
mod management;
mod port;
mod postgres;
mod process;
mod programs;
mod proxy;
mod rabbit;
mod tls;
mod token;
mod url;
mod wait;

pub use port::free as free_port;
pub use postgres::{Postgres, PostgresOptions};
pub use proxy::{Proxy, Way};
pub use rabbit::{Rabbit, RabbitOptions};
pub use wait::until;
