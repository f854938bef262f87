//! What stands beside a study's own table: its second server, or its map.

use crate::{
    map::Map,
    record::{Regime, Study},
    regimes::{self, changes},
    text::{caveats, counted, map},
};

/// A table with a line above it and sentences below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Aside<'a> {
    pub(crate) head: String,
    pub(crate) tables: Vec<Vec<Vec<String>>>,
    /// What they say.
    pub(crate) sentences: Vec<String>,
    /// What must be known of the second server's trials and not of the first's.
    pub(crate) caveats: Vec<&'a str>,
}

/// What the study's trials at other servers say; `None` where there are none.
pub(crate) fn aside(study: &Study) -> Option<Aside<'_>> {
    if let Some(map) = Map::of(study) {
        let (arms, cells) = (map.arms.len() as u64, map.cells.len() as u64);
        let head = format!("{} in {}", counted(arms, "arm"), counted(cells, "cell"));
        let sentences = vec![map::READING.to_owned()];
        return Some(Aside { head, tables: map::tables(&map), sentences, ..Aside::default() });
    }
    let Regime { study: other, .. } = regimes::second(study)?;
    let known = caveats(study);
    Some(Aside {
        head: format!(
            "The same arms {}: {}, {}",
            regimes::place(other),
            counted(other.manifest.urls, "URL"),
            counted(other.manifest.blocks.into(), "block"),
        ),
        tables: vec![regimes::table(study)],
        sentences: changes(study),
        caveats: caveats(other).into_iter().filter(|caveat| !known.contains(caveat)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, text::aligned_rows};

    #[test]
    fn the_second_server_has_a_table_beside_the_first() {
        let study = fixture::two_servers();
        let aside = aside(&study).unwrap();
        insta::assert_snapshot!(aside.head, @"The same arms where the server answers at once: 300 URLs, 6 blocks");
        insta::assert_snapshot!(aligned_rows(&aside.tables[0]).join("\n"), @r#"
        arm                  time  × fastest  at 8.00 ms  CPU/1,000  × least  at 8.00 ms
        2xasync:16        74.5 ms      1.00×       1.00×    29.0 ms    1.00×       1.00×
        async:32          98.6 ms      1.32×       1.08×    41.0 ms    1.41×       1.08×
        threads:32@ureq   99.8 ms      1.34×       1.25×    93.0 ms    3.21×       2.83×
        async:32@reqwest   100 ms      1.34×       1.10×    69.0 ms    2.38×       1.83×
        threads:32         171 ms      2.30×       1.16×     105 ms    3.60×       1.65×
        32xsequential      208 ms      2.80×       1.51×     101 ms    3.48×       1.99×
        sequential         2.51 s      33.7×       32.6×    62.0 ms    2.14×       1.64×
        "#);
        assert_eq!(aside.sentences, changes(&study));
        assert!(aside.caveats.iter().all(|caveat| !study.caveats.contains(&(*caveat).to_owned())));
    }
}
