//! Arms that differ in one thing only.

use std::collections::BTreeMap;

use crate::record::{Arm, ScalingFactor, Study};

/// Arms that differ in one thing only, by rising amount of it.
#[derive(Debug, Clone)]
pub(crate) struct Group<'a> {
    pub(crate) factor: ScalingFactor,
    /// The arms' common name, with `N` for what varies.
    pub(crate) family: String,
    pub(crate) arms: Vec<(u32, &'a Arm)>,
}

/// Every group of two arms or more, for each thing that may vary. Controls and
/// arms that fetch nothing belong to none.
pub(crate) fn groups(study: &Study) -> Vec<Group<'_>> {
    let all_workers = u32::try_from(study.manifest.workers.len()).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    for factor in [
        ScalingFactor::Processes,
        ScalingFactor::Concurrency,
        ScalingFactor::Workers,
    ] {
        let mut families: BTreeMap<String, BTreeMap<u32, &Arm>> = BTreeMap::new();
        let mut seen: Vec<String> = Vec::new();
        for arm in &study.arms {
            if arm.control || arm.client == "null" {
                continue;
            }
            // Blocking, one at a time: there is no concurrency to vary.
            if factor == ScalingFactor::Concurrency && arm.model == "sequential" {
                continue;
            }
            let n = match factor {
                ScalingFactor::Processes => arm.processes,
                ScalingFactor::Concurrency => arm.concurrency,
                ScalingFactor::Workers => arm.workers.unwrap_or(all_workers),
            };
            let family = family(arm, factor);
            if !seen.contains(&family) {
                seen.push(family.clone());
            }
            families.entry(family).or_default().entry(n).or_insert(arm);
        }
        // In the order in which the arms were given.
        for family in seen {
            let arms = families.remove(&family).unwrap_or_default();
            if arms.len() > 1 {
                found.push(Group {
                    factor,
                    family,
                    arms: arms.into_iter().collect(),
                });
            }
        }
    }
    found
}

/// The arm's name with `N` in the place of what varies.
fn family(arm: &Arm, factor: ScalingFactor) -> String {
    let processes = match (factor, arm.processes) {
        (ScalingFactor::Processes, _) => "Nx".to_owned(),
        (_, 1) => String::new(),
        (_, n) => format!("{n}x"),
    };
    let concurrency = match factor {
        ScalingFactor::Concurrency => ":N".to_owned(),
        _ if arm.model == "sequential" => String::new(),
        _ => format!(":{}", arm.concurrency),
    };
    let client = if arm.client == "core" {
        String::new()
    } else {
        format!("@{}", arm.client)
    };
    let workers = match (factor, arm.workers) {
        (ScalingFactor::Workers, _) => "/Nw".to_owned(),
        (_, None) => String::new(),
        (_, Some(n)) => format!("/{n}w"),
    };
    format!("{processes}{}{concurrency}{client}{workers}", arm.model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    fn found(arms: &[&str]) -> Vec<(String, Vec<u32>)> {
        let study = StudyBuilder::new()
            .arms(arms)
            .blocks(1)
            .urls(20)
            .build_raw();
        groups(&study)
            .into_iter()
            .map(|group| (group.family, group.arms.iter().map(|(n, _)| *n).collect()))
            .collect()
    }

    #[test]
    fn arms_are_grouped_by_the_one_thing_in_which_they_differ() {
        let groups = found(&[
            "8xasync:16",
            "async:16",
            "2xasync:16",
            "threads:8",
            "threads:32",
            "async:32@null",
            "2xasync:16@reqwest",
            "4xasync:16/1w",
            "4xasync:16/2w",
            "sequential",
            "32xsequential",
        ]);
        let named = |family: &str, ns: &[u32]| (family.to_owned(), ns.to_vec());
        assert_eq!(
            groups,
            [
                named("Nxasync:16", &[1, 2, 8]),
                named("Nxsequential", &[1, 32]),
                named("threads:N", &[8, 32]),
                named("4xasync:16/Nw", &[1, 2]),
            ]
        );
    }

    #[test]
    fn no_workers_named_means_all() {
        assert_eq!(found(&["4xasync:8", "4xasync:8/1w"]), []);
    }
}
