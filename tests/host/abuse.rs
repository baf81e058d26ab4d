//! Whoever speaks HTTP badly, slowly, too much or not at all: over real sockets.

mod deadlines;
mod drain;
mod handlers;
mod places;
mod shapes;
mod socket;
mod standstill;
