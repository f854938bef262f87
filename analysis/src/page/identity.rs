//! How an arm is drawn: one colour and one shape per model, everywhere.
//!
//! The hue and the shape tell the model, a hollow mark tells that the client is not the core, and
//! dashes tell lines apart that share a hue. Text is never coloured. The hues were chosen so that
//! the worst pair under simulated protanopia, deuteranopia and tritanopia stays apart by an OKLab
//! distance of 10 (light) and 12 (dark); every one has a contrast of 3 or more against its
//! background (WCAG 2.2, 1.4.11), which a test holds.

use fanout_proto::arm::Model;

use crate::record::ArmRecord;

/// What the model of an arm is, as far as drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ArmKind {
    Sequential,
    Threads,
    Async,
    AsyncMt,
    /// Many processes, each one URL at a time.
    MultiProcess,
    /// Several processes, each with threads or an event loop.
    Hybrid,
    /// A model that this version does not know.
    Other,
}

/// The outline of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Square,
    Circle,
    Triangle,
    Diamond,
    InvertedTriangle,
    Plus,
    Cross,
}

/// One colour, `#rrggbb` on a light and on a dark background.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colour {
    /// The CSS variable's name, without the dashes in front.
    pub(super) name: &'static str,
    pub(super) light: &'static str,
    pub(super) dark: &'static str,
}

const fn colour(name: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { name, light, dark }
}

/// Background, text and what stands between.
pub(super) const BASE_COLOURS: [Colour; 7] = [
    colour("bg", "#ffffff", "#14171c"),
    colour("panel", "#f5f7f9", "#1c2128"),
    colour("line", "#e2e6ea", "#2c333c"),
    colour("edge", "#c9cfd6", "#434c58"),
    colour("muted", "#59616c", "#a3acb8"),
    colour("ink", "#15181d", "#eef1f4"),
    colour("fail", "#d1242f", "#ff6b70"),
];

/// What a slot does: doing nothing, connecting, waiting for the server,
/// reading the body, and the cost of fanout itself.
pub(super) const PHASE_COLOURS: [Colour; 5] = [
    colour("idle", "#d5d9de", "#3a414b"),
    colour("connect", "#9ecae1", "#1f4e79"),
    colour("wait", "#4292c6", "#3f8fd2"),
    colour("body", "#08519c", "#b5dcff"),
    colour("own", "#15181d", "#ffffff"),
];

impl ArmKind {
    /// Every kind, in the order in which a legend names them.
    pub(super) const ALL: [Self; 7] = [
        Self::Sequential,
        Self::Threads,
        Self::Async,
        Self::AsyncMt,
        Self::MultiProcess,
        Self::Hybrid,
        Self::Other,
    ];

    fn of(arm: &ArmRecord) -> Self {
        match arm.known_model() {
            None => Self::Other,
            Some(model) if arm.processes > 1 && model.takes_concurrency() => Self::Hybrid,
            Some(_) if arm.processes > 1 => Self::MultiProcess,
            Some(Model::Sequential) => Self::Sequential,
            Some(Model::Threads) => Self::Threads,
            Some(Model::Async) => Self::Async,
            Some(Model::AsyncMt) => Self::AsyncMt,
        }
    }

    /// Its colour, outline and the model in everyday words.
    #[rustfmt::skip]
    fn drawn(self) -> (Colour, Shape, &'static str) {
        use Shape as S;
        match self {
            Self::Sequential => (colour("seq", "#929495", "#9c9fa1"), S::Square, "one URL after the other"),
            Self::Threads => (colour("thr", "#3288ce", "#60b0fb"), S::Circle, "a thread per URL in flight"),
            Self::Async => (colour("asy", "#d97834", "#f4842f"), S::Triangle, "one event loop"),
            Self::AsyncMt => (colour("amt", "#6a2566", "#b057a9"), S::InvertedTriangle, "event loop on several threads"),
            Self::MultiProcess => (colour("mpr", "#163f21", "#7cfae3"), S::Diamond, "many processes, one URL each"),
            Self::Hybrid => (colour("hyb", "#605f0d", "#f6d354"), S::Plus, "several processes, many URLs each"),
            Self::Other => (colour("oth", "#c62865", "#ca3546"), S::Cross, "another model"),
        }
    }

    /// Its colour. The name is also the class that makes it the element's `--c`.
    pub(super) fn colour(self) -> Colour {
        self.drawn().0
    }

    pub(super) fn shape(self) -> Shape {
        self.drawn().1
    }

    /// The model in everyday words.
    pub(super) fn description(self) -> &'static str {
        self.drawn().2
    }
}

/// How one arm is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) kind: ArmKind,
    /// Whether its client is not the core: the mark is hollow.
    pub(super) hollow: bool,
    /// Which dashes its lines have: 0 is a full line. Arms of one kind differ.
    pub(super) dashes: usize,
}

impl Identity {
    /// That of an arm on its own; lines are full.
    pub(super) fn of(arm: &ArmRecord) -> Self {
        Self { kind: ArmKind::of(arm), hollow: !arm.has_default_client(), dashes: 0 }
    }

    /// Those of arms that are drawn together, in the same order: lines of one
    /// kind get different dashes. The A/A control is drawn like its baseline.
    pub(super) fn of_all(arms: &[ArmRecord]) -> Vec<Self> {
        let mut seen: Vec<ArmKind> = Vec::with_capacity(arms.len());
        let identity = |arm: &ArmRecord| {
            let mut identity = Self::of(arm);
            identity.dashes = seen.iter().filter(|kind| **kind == identity.kind).count();
            if !arm.control {
                seen.push(identity.kind);
            }
            identity
        };
        arms.iter().map(identity).collect()
    }

    /// The SVG `stroke-dasharray` of its lines; `None` is a full line.
    pub(super) fn dash_array(self) -> Option<&'static str> {
        const PATTERNS: [&str; 4] = ["7 3", "2 3", "9 3 2 3", "14 4"];
        let which = self.dashes.checked_sub(1)?;
        Some(PATTERNS[which % PATTERNS.len()])
    }
}

/// An arm in everyday words: `32 threads, one URL each`.
pub(super) fn description(arm: &ArmRecord) -> String {
    let model = match arm.known_model() {
        Some(model) => model.label(arm.processes, arm.concurrency),
        None => arm.model.clone(),
    };
    let client = arm.known_client().map(|client| client.properties().label);
    match client.unwrap_or(&arm.client) {
        "" => model,
        client => format!("{model}; {client}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(processes: u32, model: &str, client: &str) -> ArmRecord {
        ArmRecord {
            processes,
            model: model.into(),
            client: client.into(),
            concurrency: 16,
            ..ArmRecord::default()
        }
    }

    /// WCAG 2.2's relative luminance of `#rrggbb`.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn every_hue_stands_out_from_its_ground_in_light_and_dark() {
        let [bg, panel, _, _, muted, ink, fail] = BASE_COLOURS;
        for mark in ArmKind::ALL.map(ArmKind::colour).into_iter().chain([fail]) {
            assert!(contrast(mark.light, bg.light) >= 3.0, "{mark:?}");
            assert!(contrast(mark.dark, bg.dark) >= 3.0, "{mark:?}");
        }
        for text in [muted, ink] {
            for ground in [bg, panel] {
                assert!(contrast(text.light, ground.light) >= 4.5, "{text:?}");
                assert!(contrast(text.dark, ground.dark) >= 4.5, "{text:?}");
            }
        }
    }

    #[test]
    fn hues_shapes_and_class_names_are_all_different() {
        for (at, one) in ArmKind::ALL.iter().enumerate() {
            for other in &ArmKind::ALL[..at] {
                assert_ne!(one.shape(), other.shape());
                assert_ne!(one.colour().name, other.colour().name);
            }
        }
    }

    #[test]
    fn an_arm_looks_like_its_model_and_a_foreign_client_is_hollow() {
        assert_eq!(Identity::of(&arm(1, "async", "core")).kind, ArmKind::Async);
        assert_eq!(Identity::of(&arm(32, "sequential", "core")).kind, ArmKind::MultiProcess);
        assert_eq!(Identity::of(&arm(2, "threads", "core")).kind, ArmKind::Hybrid);
        assert_eq!(Identity::of(&arm(1, "fibres", "core")).kind, ArmKind::Other);
        assert!(!Identity::of(&arm(1, "async", "core")).hollow);
        assert!(Identity::of(&arm(1, "async", "reqwest")).hollow);
    }

    #[test]
    fn lines_of_one_hue_differ_in_their_dashes() {
        let arms = [
            arm(1, "async", "core"),
            arm(1, "threads", "core"),
            arm(1, "async", "reqwest"),
            ArmRecord { control: true, ..arm(1, "async", "core") },
        ];
        let dashes: Vec<_> =
            Identity::of_all(&arms).into_iter().map(Identity::dash_array).collect();
        assert_eq!(dashes[..3], [None, None, Some("7 3")]);
    }

    #[test]
    fn glosses_are_everyday_words() {
        insta::assert_snapshot!(description(&arm(1, "async", "core")), @"one event loop, 16 in flight");
        insta::assert_snapshot!(description(&arm(2, "async", "core")), @"2 event loops, 16 in flight each");
        insta::assert_snapshot!(description(&arm(1, "threads", "ureq")), @"16 threads, one URL each; ureq");
        insta::assert_snapshot!(description(&arm(32, "sequential", "null")), @"32 processes, one URL each; fetches nothing");
    }
}
