//! Limits and memory of the cgroup that this process is in: v2, or v1 where
//! the cpu and memory controllers still live there.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// What v1 writes for "no limit", rounded down to its page size: anything from
/// here on is none (`PAGE_COUNTER_MAX`).
const V1_UNLIMITED: u64 = 1 << 62;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A cgroup's directory, and the one that its hierarchy is mounted at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CgroupPath {
    mount: PathBuf,
    directory: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    version: Option<Version>,
    cpu: Option<CgroupPath>,
    memory: Option<CgroupPath>,
}

impl Cgroups {
    pub(crate) fn find() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self::locate(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"))
    }

    /// `cgroup` and `mountinfo` as in cgroups(7) and proc_pid_mountinfo(5).
    fn locate(cgroup: &str, mountinfo: &str) -> Self {
        let v1 = |controller: &str| {
            let path = member_of(cgroup, |list| list.split(',').any(|c| c == controller))?;
            cgroup_path(mountinfo, path, |fs, options| {
                fs == "cgroup" && options.split(',').any(|o| o == controller)
            })
        };
        let (cpu, memory) = (v1("cpu"), v1("memory"));
        if cpu.is_some() || memory.is_some() {
            return Self { version: Some(Version::V1), cpu, memory };
        }
        let unified = member_of(cgroup, str::is_empty)
            .and_then(|path| cgroup_path(mountinfo, path, |fs, _| fs == "cgroup2"));
        Self {
            version: unified.as_ref().map(|_| Version::V2),
            cpu: unified.clone(),
            memory: unified,
        }
    }

    /// `v1`, `v2`, or nothing.
    pub(crate) fn name(&self) -> &'static str {
        match self.version {
            Some(Version::V1) => "v1",
            Some(Version::V2) => "v2",
            None => "",
        }
    }

    /// CPUs that this process may use at a time: the tightest limit on the way up to the root.
    pub(crate) fn cpu_limit(&self) -> Option<f64> {
        let limit = |directory: &Path| match self.version? {
            Version::V1 => v1_cpus(
                &read(&directory.join("cpu.cfs_quota_us"))?,
                &read(&directory.join("cpu.cfs_period_us"))?,
            ),
            Version::V2 => v2_cpus(&read(&directory.join("cpu.max"))?),
        };
        let upwards = self.cpu.as_ref()?.upwards();
        upwards.filter_map(limit).min_by(f64::total_cmp)
    }

    /// Memory that this process may use: the tightest limit on the way up.
    pub(crate) fn memory_limit_bytes(&self) -> Option<u64> {
        let limit = |directory: &Path| match self.version? {
            Version::V1 => v1_memory(&read(&directory.join("memory.limit_in_bytes"))?),
            Version::V2 => v2_memory(&read(&directory.join("memory.max"))?),
        };
        self.memory.as_ref()?.upwards().filter_map(limit).min()
    }

    /// How many processes of this cgroup the out-of-memory killer has ended.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let file = match self.version? {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        keyed(&self.memory_file(file)?, "oom_kill")
    }

    /// Socket buffers and kernel stacks, in bytes; known in v2 only.
    pub(crate) fn kernel_memory(&self) -> (Option<u64>, Option<u64>) {
        if self.version != Some(Version::V2) {
            return (None, None);
        }
        let stat = self.memory_file("memory.stat").unwrap_or_default();
        (keyed(&stat, "sock"), keyed(&stat, "kernel_stack"))
    }

    /// Starts to watch the peak of the cgroup's memory; v2 only.
    pub(crate) fn watch_peak(&self) -> PeakMeter {
        let path = match (self.version, &self.memory) {
            (Some(Version::V2), Some(path)) => path.directory.join("memory.peak"),
            _ => return PeakMeter::default(),
        };
        // Since Linux 6.12 a write starts the peak anew for this open file.
        let own = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .ok()
            .and_then(|mut file| file.write_all(b"reset\n").ok().map(|()| file));
        let before = read(&path).and_then(|text| text.trim().parse().ok());
        PeakMeter { own, path, before }
    }

    fn memory_file(&self, name: &str) -> Option<String> {
        read(&self.memory.as_ref()?.directory.join(name))
    }
}

impl CgroupPath {
    fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.directory.ancestors().take_while(|directory| directory.starts_with(&self.mount))
    }
}

/// The cgroup's memory peak since the watch began.
#[derive(Debug, Default)]
pub(crate) struct PeakMeter {
    own: Option<File>,
    path: PathBuf,
    before: Option<u64>,
}

impl PeakMeter {
    /// The peak, in bytes. Where the kernel keeps only one peak for the
    /// cgroup's whole life, it is known only if it has risen since.
    pub(crate) fn peak_bytes(&mut self) -> Option<u64> {
        if let Some(file) = &mut self.own {
            let mut text = String::new();
            file.rewind().ok()?;
            file.read_to_string(&mut text).ok()?;
            return text.trim().parse().ok();
        }
        let now: u64 = read(&self.path)?.trim().parse().ok()?;
        (now > self.before?).then_some(now)
    }
}

/// The path in /proc/self/cgroup of the hierarchy whose controllers `chosen` likes.
fn member_of(cgroup: &str, chosen: impl Fn(&str) -> bool) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        chosen(controllers).then_some(path)
    })
}

/// Where the cgroup `path` is to be found, by the mounts whose file system type
/// and super options `chosen` likes.
fn cgroup_path(
    mountinfo: &str,
    path: &str,
    chosen: impl Fn(&str, &str) -> bool,
) -> Option<CgroupPath> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        let options = file_system.nth(1)?;
        if !chosen(kind, options) {
            return None;
        }
        let mut mount = mount.split(' ').skip(3);
        let (root, mount) = (mount.next()?, Path::new(mount.next()?));
        // In a container that sees only its own part of the hierarchy, but the
        // whole path, the mount's root is (or is above) the cgroup itself.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below);
        Some(CgroupPath {
            mount: mount.to_owned(),
            directory: if below.as_os_str().is_empty() {
                mount.to_owned()
            } else {
                mount.join(below)
            },
        })
    })
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

#[allow(clippy::cast_precision_loss)]
fn ratio(quota: u64, period: u64) -> Option<f64> {
    (period > 0).then(|| quota as f64 / period as f64)
}

/// `cpu.max`: a quota or `max`, and its period, in microseconds.
fn v2_cpus(text: &str) -> Option<f64> {
    let mut numbers = text.split_ascii_whitespace();
    let quota = numbers.next()?.parse().ok()?;
    ratio(quota, numbers.next()?.parse().ok()?)
}

/// `cpu.cfs_quota_us`, -1 for none, and `cpu.cfs_period_us`.
fn v1_cpus(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

/// `memory.max`: bytes or `max`.
fn v2_memory(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `memory.limit_in_bytes`: bytes, or a number too large to be one.
fn v1_memory(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < V1_UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_CGROUP: &str = "0::/user.slice/session-1.scope\n";
    const V2_MOUNTS: &str = "\
24 30 0:22 / /proc rw,nosuid shared:5 - proc proc rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    const V1_CGROUP: &str = "\
4:memory:/docker/abc
3:cpuset:/docker/abc
2:cpu,cpuacct:/docker/abc
0::/
";
    const V1_MOUNTS: &str = "\
40 30 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
41 30 0:34 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset
42 30 0:35 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
43 30 0:36 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw
";

    fn at(mount: &str, directory: &str) -> Option<CgroupPath> {
        Some(CgroupPath { mount: mount.into(), directory: directory.into() })
    }

    #[test]
    fn the_unified_hierarchy_is_found() {
        let found = Cgroups::locate(V2_CGROUP, V2_MOUNTS);
        assert_eq!(found.name(), "v2");
        let path = at("/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/session-1.scope");
        assert_eq!(found.memory, path);
        let upwards: Vec<_> = found.cpu.as_ref().unwrap().upwards().collect();
        assert_eq!(
            upwards,
            [
                Path::new("/sys/fs/cgroup/user.slice/session-1.scope"),
                Path::new("/sys/fs/cgroup/user.slice"),
                Path::new("/sys/fs/cgroup"),
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let own = Cgroups::locate("0::/\n", V2_MOUNTS);
        assert_eq!(own.memory, at("/sys/fs/cgroup", "/sys/fs/cgroup"));

        let found = Cgroups::locate(V1_CGROUP, V1_MOUNTS);
        assert_eq!(found.name(), "v1");
        assert_eq!(found.memory, at("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"));
        assert_eq!(found.cpu, at("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"));
    }

    #[test]
    fn a_machine_without_cgroups_has_no_limits() {
        let none = Cgroups::locate("", "");
        assert_eq!(none.name(), "");
        assert_eq!(none.cpu_limit(), None);
        assert_eq!(none.memory_limit_bytes(), None);
        assert_eq!(none.oom_kills(), None);
        assert_eq!(none.kernel_memory(), (None, None));
        assert_eq!(none.watch_peak().peak_bytes(), None);
    }

    #[test]
    fn limits_are_parsed_and_none_is_told_from_zero() {
        assert_eq!(v2_cpus("150000 100000\n"), Some(1.5));
        assert_eq!(v2_cpus("max 100000\n"), None);
        assert_eq!(v2_cpus("100000 0\n"), None);
        assert_eq!(v1_cpus("50000\n", "100000\n"), Some(0.5));
        assert_eq!(v1_cpus("-1\n", "100000\n"), None);
        assert_eq!(v2_memory("536870912\n"), Some(512 << 20));
        assert_eq!(v2_memory("max\n"), None);
        assert_eq!(v1_memory("536870912\n"), Some(512 << 20));
        assert_eq!(v1_memory("9223372036854771712\n"), None);
    }

    #[test]
    fn events_and_statistics_are_keyed() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "oom"), Some(3));
        assert_eq!(keyed("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "oom_kill"), Some(7));
        assert_eq!(keyed("anon 1\nsock 4096\nkernel_stack 98304\n", "sock"), Some(4096));
        assert_eq!(keyed("", "sock"), None);
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_holds() {
        let mount = tempfile::tempdir().unwrap();
        let directory = mount.path().join("a/b");
        fs::create_dir_all(&directory).unwrap();
        let write = |path: &str, text: &str| fs::write(mount.path().join(path), text).unwrap();
        write("a/cpu.max", "50000 100000\n");
        write("a/b/cpu.max", "200000 100000\n");
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1048576\n");
        write("a/b/memory.events", "oom_kill 1\n");
        write("a/b/memory.stat", "sock 1\nkernel_stack 2\n");
        let path = Some(CgroupPath { mount: mount.path().to_owned(), directory });
        let found = Cgroups { version: Some(Version::V2), cpu: path.clone(), memory: path };
        assert_eq!(found.cpu_limit(), Some(0.5));
        assert_eq!(found.memory_limit_bytes(), Some(1 << 20));
        assert_eq!(found.oom_kills(), Some(1));
        assert_eq!(found.kernel_memory(), (Some(1), Some(2)));
    }

    #[test]
    fn a_peak_that_did_not_rise_belongs_to_an_earlier_trial() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.peak");
        fs::write(&path, "100\n").unwrap();
        let mut meter = PeakMeter { own: None, path: path.clone(), before: Some(100) };
        assert_eq!(meter.peak_bytes(), None);
        fs::write(&path, "101\n").unwrap();
        assert_eq!(meter.peak_bytes(), Some(101));
    }
}
