//! Arms that differ in one thing only.

use std::collections::BTreeMap;

use fanout_proto::arm::ArmFactor;

use crate::record::{ArmRecord, ScalingFactor, Study};

/// Arms that differ in one thing only, by rising amount of it.
#[derive(Debug, Clone)]
pub(crate) struct Group<'a> {
    pub(crate) factor: ScalingFactor,
    /// The arms' common name, with `N` for what varies.
    pub(crate) family: String,
    pub(crate) arms: Vec<(u32, &'a ArmRecord)>,
}

/// Every group of two arms or more, for each thing that may vary. Controls and
/// arms that fetch nothing belong to none.
pub(crate) fn groups(study: &Study) -> Vec<Group<'_>> {
    let all_workers = u32::try_from(study.manifest.workers.len()).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    for (factor, varies) in [
        (ScalingFactor::Processes, ArmFactor::Processes),
        (ScalingFactor::Concurrency, ArmFactor::Concurrency),
        (ScalingFactor::Workers, ArmFactor::Workers),
    ] {
        let mut families: BTreeMap<String, BTreeMap<u32, &ArmRecord>> = BTreeMap::new();
        let mut seen: Vec<String> = Vec::new();
        for record in &study.arms {
            let Some(arm) = record.arm().filter(|_| !record.control && record.fetches()) else {
                continue;
            };
            // One URL at a time: there is no concurrency to vary.
            if varies == ArmFactor::Concurrency && !arm.model.takes_concurrency() {
                continue;
            }
            let n = match varies {
                ArmFactor::Processes => record.processes,
                ArmFactor::Concurrency => record.concurrency,
                ArmFactor::Workers => record.workers.unwrap_or(all_workers),
            };
            let family = arm.family(varies);
            if !seen.contains(&family) {
                seen.push(family.clone());
            }
            families.entry(family).or_default().entry(n).or_insert(record);
        }
        // In the order in which the arms were given.
        for family in seen {
            let arms = families.remove(&family).unwrap_or_default();
            if arms.len() > 1 {
                found.push(Group { factor, family, arms: arms.into_iter().collect() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    fn found(arms: &[&str]) -> Vec<(String, Vec<u32>)> {
        let study = StudyBuilder::new().arms(arms).blocks(1).urls(20).build_raw();
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
