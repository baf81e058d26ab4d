//! What a seed decides before anything begins: how many hosts there are, and what goes wrong how often.

use std::fmt;
use std::time::Duration;

use crate::runtime::Roles;
use crate::testkit::sim::random::Random;

/// How a simulation is set up. The seed decides everything that is not said.
#[derive(Debug, Clone, PartialEq)]
pub struct SimOptions {
    /// Where everything comes from.
    pub seed: u64,
    /// What each host does.
    pub hosts: Vec<Roles>,
    /// How long things go wrong.
    pub safety: Duration,
    /// How long it may take afterwards until everything is over.
    pub liveness: Duration,
    /// What goes wrong now and then, one after the other.
    pub disasters: Vec<Disaster>,
    /// The mean time between two disasters.
    pub pace: Duration,
    /// What goes wrong all the time.
    pub rates: Rates,
    /// A protection that is taken away, to see whether it is missed.
    pub unprotected: Option<Protection>,
}

/// What goes wrong now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disaster {
    /// A host is killed.
    Crash,
    /// A host is killed the next time, or some later time, that it reaches a named point.
    CrashAtPoint,
    /// A host stands still.
    Freeze,
    /// A host is asked to stop, and started again.
    Restart,
    /// A host's clock is set forward or back by up to an hour, and later set right.
    ClockJump,
    /// A host can not reach the database.
    Partition,
    /// Nobody can reach the database.
    DatabaseDown,
    /// A host loses its connection to the broker; each side notices in its own time.
    ConnectionLost,
    /// The broker is killed and forgets what it has not confirmed.
    BrokerCrash,
    /// The broker takes no messages for a while.
    Blocked,
}

impl Disaster {
    const ALL: [Self; 10] = [
        Self::Crash,
        Self::CrashAtPoint,
        Self::Freeze,
        Self::Restart,
        Self::ClockJump,
        Self::Partition,
        Self::DatabaseDown,
        Self::ConnectionLost,
        Self::BrokerCrash,
        Self::Blocked,
    ];
}

/// What goes wrong all the time, each in times of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests that the database does not answer, and has not carried out.
    pub unavailable: u32,
    /// Commits that it does not answer, and has carried out, or will.
    pub unknown: u32,
    /// Commits that fail because somebody else may have been quicker.
    pub conflict: u32,
    /// Commits whose rows are refused.
    pub refusal: u32,
    /// Requests that take long.
    pub slow: u32,
    /// Messages that are stored twice.
    pub duplicate: u32,
    /// Messages that are delivered out of turn.
    pub reorder: u32,
    /// Deliveries that take long.
    pub late_delivery: u32,
    /// Messages that are not taken.
    pub nack: u32,
    /// Confirms that take long.
    pub late_confirm: u32,
    /// Confirms that do not come.
    pub lost_confirm: u32,
}

/// One thing that keeps messages from being lost or handled twice. Without it, a simulation must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protection {
    /// The database knows which messages were handled.
    Inbox,
    /// A step is written only over the version that it was computed from.
    Version,
    /// A timer that is not there any more does not fire. Without it nothing goes wrong but that messages are sent twice.
    FiredOnce,
    /// A message is confirmed when the broker has it, not before.
    ConfirmAfterStore,
    /// A message is acknowledged when its outcome is committed, not when it is delivered.
    AcknowledgeAfterCommit,
    /// Rows are taken over from hosts that are lost, not from those that live. Without it nothing goes wrong but that
    /// messages are sent twice.
    Lease,
}

/// How long a host is believed to be alive after it was last heard of.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// How much longer it takes where a clock was set: what was written under a clock that was an hour ahead is due an hour
/// later.
const CLOCK: Duration = Duration::from_secs(3600);

impl SimOptions {
    /// What follows from `seed`.
    ///
    /// Each seed leaves out about half of what can go wrong, so that what is left meets in many ways.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, "options");
        let hosts = Self::roles(&mut random);
        let mut disasters: Vec<_> = Disaster::ALL.into_iter().filter(|_| random.happens(450)).collect();
        if disasters.is_empty() {
            disasters.push(*random.pick(&Disaster::ALL));
        }
        let mut up_to = |most: u64| if random.happens(500) { random.within(1..=most) as u32 } else { 0 };
        let rates = Rates {
            unavailable: up_to(60),
            unknown: up_to(60),
            conflict: up_to(60),
            refusal: up_to(30),
            slow: up_to(60),
            duplicate: up_to(150),
            reorder: up_to(300),
            late_delivery: up_to(100),
            nack: up_to(60),
            late_confirm: up_to(100),
            lost_confirm: up_to(20),
        };
        let (safety, pace) = (random.millis(60_000..=150_000), random.millis(2_000..=12_000));
        let jumps = disasters.contains(&Disaster::ClockJump);
        let liveness = Duration::from_secs(600) + if jumps { CLOCK } else { Duration::ZERO };
        Self { seed, hosts, safety, liveness, disasters, pace, rates, unprotected: None }
    }

    /// Two or three hosts; some split the work, and each part of it is done by one at the least.
    fn roles(random: &mut Random) -> Vec<Roles> {
        let count = random.within(2..=3) as usize;
        let mut hosts = vec![Roles::ALL; count];
        if random.happens(300) {
            let mut some =
                || Roles { sagas: random.happens(500), handlers: random.happens(500), relay: random.happens(500) };
            hosts[0] = some();
            if count == 3 {
                hosts[1] = some();
            }
        }
        hosts
    }
}

impl fmt::Display for SimOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = |it: &Roles| {
            let named = [(it.sagas, "sagas"), (it.handlers, "handlers"), (it.relay, "relay")];
            let named: Vec<_> = named.into_iter().filter(|(does, _)| *does).map(|(_, name)| name).collect();
            if named.is_empty() { "callers only".to_owned() } else { named.join("+") }
        };
        writeln!(f, "seed         {}", self.seed)?;
        writeln!(f, "hosts        {}", self.hosts.iter().map(roles).collect::<Vec<_>>().join(", "))?;
        writeln!(f, "safety       {:?}, a disaster each {:?}: {:?}", self.safety, self.pace, self.disasters)?;
        writeln!(f, "liveness     {:?}", self.liveness)?;
        writeln!(f, "in thousand  {:?}", self.rates)?;
        match self.unprotected {
            Some(protection) => writeln!(f, "without      {protection:?}"),
            None => Ok(()),
        }
    }
}
