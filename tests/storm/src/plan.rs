//! What happens when, by the seed.

use std::time::Duration;

use crate::chance::Chance;
use crate::fault::Fault;
use crate::options::Options;

/// One fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// When it is due after the start; later, if the fault before it takes longer.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// The first host that is asked for; the next one if nothing can happen to it.
    pub(crate) host: u64,
    /// To its connections with the database, not with the broker.
    pub(crate) database: bool,
    /// Chooses among the shapes that the fault may have.
    pub(crate) shape: u64,
}

/// The faults but the kills of hosts, which come at their own pace: those of the servers one after another, and beside
/// them those of the network and of hosts that stand still, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) servers: Vec<Step>,
    pub(crate) network: Vec<Step>,
}

/// What is done to the servers that all hosts share.
const SERVERS: [Fault; 6] = [
    Fault::BrokerStop,
    Fault::BrokerKill,
    Fault::BrokerPause,
    Fault::DatabaseStop,
    Fault::DatabasePause,
    Fault::BackendKill,
];

/// What is done to one host and its connections.
const NETWORK: [Fault; 4] = [Fault::HostPause, Fault::Cut, Fault::Delay, Fault::HalfOpen];

impl Plan {
    pub(crate) fn of(options: &Options) -> Self {
        let of = |purpose: &str, kinds: &[Fault]| {
            let asked = options.asked();
            let faults = kinds.iter().flat_map(|fault| (0..asked.count(*fault)).map(|_| *fault)).collect();
            spread(Chance::of(options.seed, purpose), faults, options)
        };
        Self { servers: of("servers", &SERVERS), network: of("network", &NETWORK) }
    }
}

/// Each fault in a slot of its own, the slots as long as each other, and somewhere in the first half of it.
fn spread(mut chance: Chance, mut faults: Vec<Fault>, options: &Options) -> Vec<Step> {
    chance.shuffle(&mut faults);
    let slot = options.length() / u32::try_from(faults.len()).unwrap_or(u32::MAX).max(1);
    let step = |(n, fault)| {
        let within = Duration::from_millis(chance.below(slot.as_millis() as u64 / 2));
        let (host, database) = (chance.below(options.hosts), chance.below(2) == 0);
        Step { at: slot * n + within, fault, host, database, shape: chance.below(1_000) }
    };
    (0..).zip(faults).map(step).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::fault::Tally;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &str) -> Options {
        Arguments::parse_from(std::iter::once("storm").chain(arguments.split(' '))).options
    }

    #[test]
    fn given_a_seed_when_planned_again_then_it_is_the_same_plan_and_another_seed_another() {
        let plan = |seed: u32| Plan::of(&options(&format!("--seed {seed} --cuts 20 --broker-stops 5")));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7).network, plan(8).network);
        assert_ne!(plan(7).servers, plan(8).servers);
    }

    #[test]
    fn given_options_when_planned_then_each_fault_is_there_as_often_as_asked_within_the_storm() {
        let options =
            options("--seed 1 --host-kills 100 --cuts 20 --broker-stops 5 --broker-pauses 2 --database-stops 5");
        let Plan { servers, network } = Plan::of(&options);
        let mut planned = Tally::of([(Fault::HostKill, options.host_kills)]);
        for steps in [&servers, &network] {
            assert!(steps.is_sorted_by_key(|step| step.at) && steps.iter().all(|step| step.at < options.length()));
            steps.iter().for_each(|step| planned.add(step.fault));
        }
        assert_eq!(planned, options.asked());
    }
}
