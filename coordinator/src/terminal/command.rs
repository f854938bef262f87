//! A command as it may be shown, kept, and typed again.

/// This process's own command, to be typed again so that it goes on. Values of
/// headers are left out: they may be secret, and this may stand in a log.
pub(super) fn resuming_command() -> String {
    let typed: Vec<_> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    resuming(&typed)
}

fn resuming(typed: &[String]) -> String {
    let resumes = typed.iter().any(|argument| argument == "--resume");
    let mut words: Vec<_> =
        without_secrets(typed).iter().map(|argument| quoted(argument)).collect();
    if !resumes {
        words.push("--resume".to_owned());
    }
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Arguments as they may be kept and shown: without the values of headers, which may be secret.
pub(crate) fn without_secrets(arguments: &[String]) -> Vec<String> {
    let mut is_header = false;
    let hidden = arguments.iter().map(|argument| {
        let (flag, header) = match argument.strip_prefix("--header=") {
            Some(header) => ("--header=", Some(header)),
            None => ("", is_header.then_some(argument.as_str())),
        };
        is_header = argument == "--header";
        match header.and_then(|header| header.split_once(':')) {
            Some((name, _)) => format!("{flag}{name}: …"),
            None => argument.clone(),
        }
    });
    hidden.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_can_be_typed() {
        let typed = |line: &[&str]| {
            let typed: Vec<_> = line.iter().map(|word| (*word).to_owned()).collect();
            resuming(&typed)
        };
        assert_eq!(
            typed(&["coordinator", "fetch", "it's my list.txt", "--out", "a.csv"]),
            r"coordinator fetch 'it'\''s my list.txt' --out a.csv --resume"
        );
        assert_eq!(
            typed(&["c", "fetch", "-", "--resume", "--header", "Cookie: x", ""]),
            "c fetch - --resume --header 'Cookie: …' ''"
        );
    }

    #[test]
    fn values_of_headers_are_not_kept() {
        let typed = ["fetch", "--header", "Authorization: x", "--header=B: y", "a: b"];
        let typed = typed.map(str::to_owned);
        let kept = ["fetch", "--header", "Authorization: …", "--header=B: …", "a: b"];
        assert_eq!(without_secrets(&typed), kept);
    }
}
