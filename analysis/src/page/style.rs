//! The style sheet and the script, which stand in the page itself.

use maud::{Markup, PreEscaped};

use super::identity::{ArmKind, BASE_COLOURS, Colour, PHASE_COLOURS};

/// The style sheet: the colours for light and dark from [`identity`](super::identity),
/// then the rules.
///
/// Dark is chosen by the reader's system or by the switch on the page; paper is always light.
pub(super) fn sheet() -> Markup {
    let kinds = ArmKind::ALL.map(ArmKind::colour);
    let colours = |of: fn(&Colour) -> &'static str| {
        let all = BASE_COLOURS.iter().chain(&PHASE_COLOURS).chain(&kinds);
        all.map(|colour| format!("--{}:{};", colour.name, of(colour))).collect::<String>()
    };
    let light = colours(|colour| colour.light);
    let dark = colours(|colour| colour.dark);
    let mut css = format!(
        ":root{{color-scheme:light;{light}}}\
         @media screen and (prefers-color-scheme:dark){{:root:not(:has(#theme-light:checked)){{color-scheme:dark;{dark}}}}}\
         @media screen{{:root:has(#theme-dark:checked){{color-scheme:dark;{dark}}}}}"
    );
    for Colour { name, .. } in kinds {
        css += &format!(".{name}{{--c:var(--{name})}}");
    }
    for Colour { name, .. } in PHASE_COLOURS {
        css += &format!(
            ".ph-{name}{{fill:var(--{name});background:var(--{name})}}.st-{name}{{stroke:var(--{name})}}"
        );
    }
    css.push_str(&squeezed(include_str!("page.css")));
    PreEscaped(css)
}

/// The script; the page is whole without it.
pub(super) fn script() -> Markup {
    PreEscaped(include_str!("page.js").to_owned())
}

/// Without comments and the room at the beginning of lines.
fn squeezed(css: &str) -> String {
    let mut rest = css;
    let mut bare = String::with_capacity(css.len());
    while let Some((before, after)) = rest.split_once("/*") {
        bare.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    bare.push_str(rest);
    bare.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_leave_and_rules_stay() {
        assert_eq!(squeezed("a{b:c}\n  /* x\n y */\n d{e:f} /* z"), "a{b:c}\nd{e:f}");
    }

    #[test]
    fn the_script_is_short() {
        assert!(include_str!("page.js").lines().count() <= 60);
    }

    #[test]
    fn every_colour_used_is_defined_in_light_and_dark() {
        let css = sheet().into_string();
        for used in css.split("var(--").skip(1) {
            let name = used.split([')', ',']).next().unwrap();
            let defined = css.matches(&format!("--{name}:")).count();
            assert!(defined >= 3 || ["c", "fit"].contains(&name), "{name}: {defined}");
        }
    }
}
