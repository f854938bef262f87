//! A small SVG module: scales, axes, marks and labels.
//!
//! Everything is inline SVG in a page whose style sheet gives the colours: a
//! mark takes its colour from the `--c` of the group around it. All text goes
//! through maud and is escaped. Places are rounded to a tenth of a pixel.

mod labels;
pub(super) mod plot;
pub(super) mod scale;

use std::fmt::{self, Display, Write as _};

use maud::{Markup, html};

use super::identity::{Identity, Shape};

/// A place or length in pixels, written with at most one digit after the
/// point. What is not a number is written as 0, so that no path can break.
#[derive(Debug, Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round();
        if !tenths.is_finite() || tenths == 0.0 {
            return f.write_str("0");
        }
        let decimals = usize::from(tenths % 10.0 != 0.0);
        write!(f, "{:.decimals$}", tenths / 10.0)
    }
}

/// Path data, written as it grows.
#[derive(Debug, Default, Clone)]
pub(super) struct Path(String);

impl Path {
    /// A line through points; empty where there are none.
    pub(super) fn line(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut path = Self::default();
        for (x, y) in points {
            if path.0.is_empty() {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        path
    }

    /// A closed outline through corners; empty where there are none.
    pub(super) fn outline(corners: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut path = Self::line(corners);
        if !path.is_empty() {
            path.close();
        }
        path
    }

    pub(super) fn move_to(&mut self, x: f64, y: f64) -> &mut Self {
        self.put(format_args!("M{} {}", Px(x), Px(y)))
    }

    pub(super) fn line_to(&mut self, x: f64, y: f64) -> &mut Self {
        self.put(format_args!("L{} {}", Px(x), Px(y)))
    }

    /// Draws sideways by a length.
    pub(super) fn across(&mut self, length: f64) -> &mut Self {
        self.put(format_args!("h{}", Px(length)))
    }

    /// Draws sideways to a place.
    pub(super) fn across_to(&mut self, x: f64) -> &mut Self {
        self.put(format_args!("H{}", Px(x)))
    }

    /// Draws up or down to a place.
    pub(super) fn down_to(&mut self, y: f64) -> &mut Self {
        self.put(format_args!("V{}", Px(y)))
    }

    pub(super) fn close(&mut self) -> &mut Self {
        self.put(format_args!("Z"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path data, for the attribute `d`.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn put(&mut self, what: fmt::Arguments<'_>) -> &mut Self {
        self.0.write_fmt(what).expect("writing into memory cannot fail");
        self
    }
}

/// The outline of a shape with about the area of a circle of `radius`.
fn shape_outline(shape: Shape, x: f64, y: f64, radius: f64) -> Path {
    let polygon = |corners: &[(f64, f64)]| {
        let place = |(dx, dy): &(f64, f64)| (x + dx * radius, y + dy * radius);
        Path::outline(corners.iter().map(place))
    };
    // The corners of a quarter; the others are the same, turned.
    let quartered = |corners: &[(f64, f64)]| {
        let turned = |(x, y): &(f64, f64)| (-y, *x);
        let mut all = corners.to_vec();
        for at in 0..3 * corners.len() {
            all.push(turned(&all[at]));
        }
        polygon(&all)
    };
    match shape {
        Shape::Circle => {
            let mut path = Path::default();
            path.move_to(x - radius, y);
            for to in [2.0 * radius, -2.0 * radius] {
                path.put(format_args!("a{0} {0} 0 1 0 {1} 0", Px(radius), Px(to)));
            }
            path.close();
            path
        }
        Shape::Square => quartered(&[(-0.9, -0.9)]),
        Shape::Triangle => polygon(&[(0.0, -1.15), (1.15, 0.85), (-1.15, 0.85)]),
        Shape::InvertedTriangle => polygon(&[(0.0, 1.15), (1.15, -0.85), (-1.15, -0.85)]),
        Shape::Diamond => quartered(&[(0.0, -1.25)]),
        Shape::Plus => quartered(&[(-0.4, -1.12), (0.4, -1.12), (0.4, -0.4)]),
        Shape::Cross => quartered(&[(0.0, -0.55), (0.6, -1.15), (1.15, -0.6)]),
    }
}

/// The mark of an arm; `title` is what a pointer over it, or a screen reader, gets.
pub(super) fn mark(identity: Identity, x: f64, y: f64, radius: f64, title: Option<&str>) -> Markup {
    // A hollow mark's line lies half outside of its outline.
    let radius = if identity.hollow { radius - 0.6 } else { radius };
    let path = shape_outline(identity.kind.shape(), x, y, radius);
    html! {
        path.mark.hollow[identity.hollow] d=(path.as_str()) {
            @if let Some(title) = title { title { (title) } }
        }
    }
}

/// A mark on its own, as keys and tables show it beside a name.
pub(super) fn swatch(identity: Identity) -> Markup {
    html! {
        svg.swatch.(identity.kind.colour().name) viewBox="0 0 18 18" width="18" height="18" aria-hidden="true" {
            (mark(identity, 9.0, 9.0, 6.0, None))
        }
    }
}

/// The tip of what goes on past the edge of a chart: to the right of a place.
pub(super) fn onward(x: f64, y: f64, title: &str) -> Markup {
    let tip = Path::outline([(x + 2.0, y - 6.0), (x + 10.0, y), (x + 2.0, y + 6.0)]);
    html! { path.onward d=(tip.as_str()) { title { (title) } } }
}

/// Which side of its place a text stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text; `class` chooses its weight in the style sheet.
pub(super) fn text(class: &str, x: f64, y: f64, anchor: Anchor, content: &str) -> Markup {
    let anchor = match anchor {
        Anchor::Start => None,
        Anchor::Middle => Some("middle"),
        Anchor::End => Some("end"),
    };
    html! {
        text class=(class) x=(Px(x)) y=(Px(y)) text-anchor=[anchor] { (content) }
    }
}

/// About how wide a text is, in pixels: rather more than less, since the reader's font is unknown.
pub(super) fn text_width(content: &str, font_px: f64) -> f64 {
    let em: f64 = content
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | '·' | ' ' => 0.36,
            'f' | 't' | 'r' | '(' | ')' | '-' | '/' => 0.45,
            'm' | 'w' | 'M' | 'W' | '@' | '%' | '×' => 0.95,
            c if c.is_ascii_uppercase() => 0.74,
            c if c.is_ascii() => 0.64,
            c if (c as u32) < 0x1100 => 0.7,
            _ => 1.1,
        })
        .sum();
    em * font_px
}

/// A text cut to a width, with an ellipsis when something is left out.
pub(super) fn fitted(content: &str, font_px: f64, width: f64) -> String {
    if text_width(content, font_px) <= width {
        return content.to_owned();
    }
    let mut kept = String::new();
    for c in content.chars() {
        kept.push(c);
        if text_width(&kept, font_px) + text_width("…", font_px) > width {
            kept.pop();
            break;
        }
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_short_and_always_numbers() {
        let written: Vec<String> = [1.0, 1.25, -0.04, 12.96, f64::NAN, f64::INFINITY, -3.5]
            .into_iter()
            .map(|v| Px(v).to_string())
            .collect();
        assert_eq!(written.join(" "), "1 1.3 0 13 0 0 -3.5");
    }

    #[test]
    fn a_mark_is_one_path_with_its_title_escaped() {
        let identity = Identity::of(&crate::fixture::arm("async:32"));
        let drawn = mark(identity, 10.0, 20.0, 4.0, Some("<async> & \"co\"")).into_string();
        insta::assert_snapshot!(drawn, @r#"<path class="mark" d="M10 15.4L14.6 23.4L5.4 23.4Z"><title>&lt;async&gt; &amp; &quot;co&quot;</title></path>"#);
        let hollow =
            mark(Identity::of(&crate::fixture::arm("threads:32@ureq")), 10.0, 20.0, 4.6, None)
                .into_string();
        insta::assert_snapshot!(hollow, @r#"<path class="mark hollow" d="M6 20a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z"></path>"#);
    }

    #[test]
    fn a_swatch_takes_its_colour_from_its_class() {
        let drawn = swatch(Identity::of(&crate::fixture::arm("32xsequential"))).into_string();
        insta::assert_snapshot!(drawn, @r#"<svg class="swatch mpr" viewBox="0 0 18 18" width="18" height="18" aria-hidden="true"><path class="mark" d="M9 1.5L16.5 9L9 16.5L1.5 9Z"></path></svg>"#);
    }

    #[test]
    fn a_long_name_is_cut_with_an_ellipsis() {
        assert_eq!(fitted("async:32", 13.0, 200.0), "async:32");
        let cut = fitted("32xasync-mt:1024@reqwest/16w", 13.0, 100.0);
        assert!(cut.ends_with('…') && text_width(&cut, 13.0) <= 100.0, "{cut}");
    }

    proptest! {
        #[test]
        fn no_path_ever_has_anything_but_numbers(points in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..20)) {
            let path = Path::line(points);
            prop_assert!(!path.as_str().contains("NaN") && !path.as_str().contains("inf"));
        }
    }
}
