//! Which processors the origin and the fetchers run on.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::exit::Failure;

/// With this many processors the embedded origin gets some of its own.
const DISJOINT_FROM: usize = 4;

/// `--placement`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Disjoint where there are processors enough, else shared.
    #[default]
    Auto,
    /// Origin and fetchers run anywhere.
    Shared,
    /// Origin and fetchers each have their own.
    Disjoint,
    Lists {
        origin: Vec<u32>,
        fetchers: Vec<u32>,
    },
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Shared => f.write_str("shared"),
            Self::Disjoint => f.write_str("disjoint"),
            Self::Lists { origin, fetchers } => {
                write!(f, "{}:{}", list_text(origin), list_text(fetchers))
            }
        }
    }
}

/// A processor list as the kernel writes it: `0-3,6`.
pub(crate) fn list_text(cpus: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let range = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(range).collect::<Vec<_>>().join(",")
}

fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= 1024 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "shared" => Self::Shared,
            "disjoint" => Self::Disjoint,
            lists => {
                let (origin, fetchers) = lists
                    .split_once(':')
                    .and_then(|(o, f)| Some((parse_list(o)?, parse_list(f)?)))
                    .ok_or_else(|| {
                        "write auto, shared, disjoint, or the origin's and the fetchers' processors \
                         as in 0:1-3"
                            .to_owned()
                    })?;
                Self::Lists { origin, fetchers }
            }
        })
    }
}

/// Where things run; empty lists mean anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CpuPlacement {
    pub(crate) origin: Vec<u32>,
    pub(crate) fetchers: Vec<u32>,
}

impl Placement {
    pub(crate) fn settle(
        &self,
        mask: &[u32],
        embedded_origin: bool,
    ) -> Result<CpuPlacement, Failure> {
        let disjoint = || {
            // The rest is for the coordinator and the worker.
            let origin = (mask.len() / 4).max(1);
            let fetchers =
                if mask.len() < DISJOINT_FROM { mask.len() - origin } else { mask.len() / 2 };
            CpuPlacement {
                origin: mask[..origin].to_vec(),
                fetchers: mask[origin..origin + fetchers].to_vec(),
            }
        };
        match self {
            Self::Auto if embedded_origin && mask.len() >= DISJOINT_FROM => Ok(disjoint()),
            Self::Auto | Self::Shared => Ok(CpuPlacement::default()),
            Self::Disjoint if mask.len() < 2 => Err(Failure::usage(
                "--placement disjoint needs two processors, and this process may use one",
            )),
            Self::Disjoint => Ok(disjoint()),
            Self::Lists { origin, fetchers } => {
                let mut named = origin.iter().chain(fetchers);
                match named.find(|cpu| !mask.contains(cpu)) {
                    Some(cpu) => Err(Failure::usage(format!(
                        "--placement names processor {cpu}, and this process may use {}",
                        list_text(mask)
                    ))),
                    None => Ok(CpuPlacement { origin: origin.clone(), fetchers: fetchers.clone() }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        let placement: Placement = "0:1-3,6".parse().unwrap();
        assert_eq!(placement.to_string(), "0:1-3,6");
        assert!("0".parse::<Placement>().is_err());
        assert!("0:3-1".parse::<Placement>().is_err());
        assert!("0:x".parse::<Placement>().is_err());
    }

    #[test]
    fn four_processors_are_split_and_two_are_shared() {
        let auto = Placement::Auto;
        assert_eq!(auto.settle(&[0, 1], true).unwrap(), CpuPlacement::default());
        let placed = auto.settle(&[2, 3, 4, 5], true).unwrap();
        assert_eq!((placed.origin, placed.fetchers), (vec![2], vec![3, 4]));
        assert_eq!(auto.settle(&[0, 1, 2, 3], false).unwrap(), CpuPlacement::default());
    }

    #[test]
    fn nothing_goes_outside_the_mask() {
        let lists: Placement = "0:7".parse().unwrap();
        assert_eq!(
            lists.settle(&[0, 1], true).unwrap_err().to_string(),
            "--placement names processor 7, and this process may use 0-1"
        );
        assert_eq!(
            Placement::Disjoint.settle(&[3], true).unwrap_err().to_string(),
            "--placement disjoint needs two processors, and this process may use one"
        );
        let placed = Placement::Disjoint.settle(&[0, 1], true).unwrap();
        assert_eq!((placed.origin, placed.fetchers), (vec![0], vec![1]));
    }
}
