//! Which hosts a run will load.

use crate::{terminal::reporter::Reporter, url_list::UrlList};

pub(crate) fn announce(list: &UrlList, reporter: &dyn Reporter) {
    const SHOWN: usize = 10;
    let (hosts, others) = list.beyond_loopback();
    if list.skipped_lines() > 0 {
        reporter.say(&format!("left out {} lines that are no URLs", list.skipped_lines()));
    }
    if hosts.is_empty() {
        return;
    }
    reporter.say("requests per host:");
    for host in hosts.iter().take(SHOWN) {
        reporter.say(&format!("  {:>9}  {}", host.urls, host.host));
    }
    let rest: u64 = hosts.iter().skip(SHOWN).map(|h| h.urls).sum::<u64>() + others;
    if rest > 0 {
        reporter.say(&format!("  {rest:>9}  on other hosts"));
    }
}
