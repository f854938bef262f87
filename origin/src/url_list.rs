//! URL lists for an origin: the built-in one, and as many URLs as one likes.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use url::Url;

use crate::{
    query,
    seeded_rng::SeededRng,
    spec::{Delay, Size, SpecError, echo},
};

const BUILTIN_COUNT: usize = 1000;
/// Mean of the built-in list's delays.
pub const BUILTIN_DELAY_MEAN: Duration = Duration::from_millis(8);
/// Their sum.
const BUILTIN_DELAYS_US: u64 = 8_000 * 1000;
/// Spread of the built-in delays: the standard deviation of their logarithm.
const BUILTIN_SIGMA: f64 = 0.5;
/// Bytes of the built-in list's bodies.
const BUILTIN_SIZES: (u64, u64) = (1024, 64 * 1024);

/// The built-in list: 1,000 URLs of the origin at `base`, each with a delay and a size of its own,
/// the same for the same `seed` whatever the origin's own seed is.
///
/// The delays are lognormal with a sigma of 0.5, and scaled so that they add
/// up to exactly 8 s: their mean is 8 ms for every seed, and the median is
/// close to 8 ms / exp(0.5² / 2) = 7.06 ms. The sizes are uniform from 1 KiB
/// to 64 KiB. The path holds the index, so that no URL occurs twice.
pub fn builtin(base: &str, seed: u64) -> impl Iterator<Item = String> + use<> {
    let base = base.trim_end_matches('/').to_owned();
    builtin_entries(seed).map(move |(index, delay_us, size)| {
        format!("{base}/{index}?delay={delay_us}us&size={size}")
    })
}

/// The built-in list without its delays: the same sizes from a server that answers at once.
pub fn builtin_at_once(base: &str, seed: u64) -> impl Iterator<Item = String> + use<> {
    let base = base.trim_end_matches('/').to_owned();
    builtin_entries(seed).map(move |(index, _, size)| format!("{base}/{index}?size={size}"))
}

/// Index, delay in microseconds and size of every URL of the built-in list.
fn builtin_entries(seed: u64) -> impl Iterator<Item = (usize, u64, u64)> {
    let mut rng = SeededRng::new(seed);
    let delays_us = builtin_delays_us(&mut rng);
    delays_us.into_iter().enumerate().map(move |(index, delay_us)| {
        (index, delay_us, rng.between(BUILTIN_SIZES.0, BUILTIN_SIZES.1))
    })
}

/// Lognormal delays with exactly the promised sum. Each boundary between two
/// URLs' shares of it is rounded, so that the rounding cancels out.
fn builtin_delays_us(rng: &mut SeededRng) -> Vec<u64> {
    let weights: Vec<f64> =
        (0..BUILTIN_COUNT).map(|_| (BUILTIN_SIGMA * rng.normal()).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut so_far = 0.0;
    let mut boundary = 0;
    weights
        .iter()
        .map(|weight| {
            so_far += weight;
            let share = Duration::from_micros(BUILTIN_DELAYS_US).mul_f64((so_far / total).min(1.0));
            let next = u64::try_from(share.as_micros()).expect("at most the sum");
            let delay = next - boundary;
            boundary = next;
            delay
        })
        .collect()
}

/// Print a list of distinct URLs for an origin.
///
/// The list streams: a hundred million lines take no more memory than ten.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  coordinator urls --base http://127.0.0.1:8080 --count 10000 --delay 5ms --size 64
  coordinator urls --base http://origin:8080 --count 1000 --delay lognormal:20ms:0.5 --size 1k..64k
  coordinator urls --base http://127.0.0.1:8080 --count 20 --param status=503 --param retry-after=1
  coordinator urls --base http://127.0.0.1:8080 --count 100000000 | coordinator fetch -")]
pub struct UrlsArgs {
    /// The origin: what it prints when it starts
    #[arg(long, value_name = "URL")]
    pub base: String,

    /// How many URLs
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub count: u64,

    /// Delay of each response: 5ms, 1ms..20ms, lognormal:20ms:0.5
    #[arg(long, value_name = "SPEC", value_parser = checked::<Delay>)]
    pub delay: Option<String>,

    /// Size of each body: 64, 4k, 1k..64k
    #[arg(long, value_name = "SPEC", value_parser = checked::<Size>)]
    pub size: Option<String>,

    /// A parameter of the origin's language more: gzip, status=503, truncate …
    #[arg(long = "param", value_name = "P")]
    pub params: Vec<String>,
}

fn checked<T: FromStr<Err = SpecError>>(text: &str) -> Result<String, SpecError> {
    text.parse::<T>().map(|_| text.to_owned())
}

/// Prints the list on standard output. A reader that closes it early ends it quietly. The exit code
/// is 0, or 2 with the reason on standard error.
pub fn run_urls(args: &UrlsArgs) -> ExitCode {
    match print(args, io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// The error says why the list cannot be printed as asked.
fn print(args: &UrlsArgs, out: impl Write) -> Result<(), String> {
    let (before, after) = template(args)?;
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut lines = (0..args.count).map(|index| writeln!(out, "{before}{index}{after}"));
    match lines.try_for_each(|written| written).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("the list cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// What all URLs of a list share: what stands before the index, and what behind it.
fn template(args: &UrlsArgs) -> Result<(String, String), String> {
    let base = Url::parse(&args.base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .filter(|url| url.query().is_none() && url.fragment().is_none())
            .ok_or_else(|| {
                let base = echo(&args.base);
                format!("'{base}' is no base URL of an origin: give what it prints, such as http://127.0.0.1:8080")
            })?;
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        let separator = if query.is_empty() { "" } else { "&" };
        write!(query, "{separator}{name}{value}").expect("a String grows as needed");
    };
    for (name, value) in [("delay=", &args.delay), ("size=", &args.size)] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    for param in &args.params {
        let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '&' | '#');
        if param.is_empty() || param.contains(ends) {
            let param = echo(param);
            return Err(format!(
                "--param {param}: a parameter holds no white space, no & and no #; give --param once for each"
            ));
        }
        add("", param);
    }
    query::parse(&query).map_err(|error| format!("the origin would refuse these URLs: {error}"))?;
    if !query.is_empty() {
        query.insert(0, '?');
    }
    Ok((format!("{}/", base.as_str().trim_end_matches('/')), query))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn parts(url: &str) -> (u64, u64) {
        let (_, query) = url.split_once("?delay=").unwrap();
        let (delay, size) = query.split_once("us&size=").unwrap();
        (delay.parse().unwrap(), size.parse().unwrap())
    }

    #[test]
    fn the_builtin_list_is_what_it_promises() {
        for seed in [0, 1, 42, u64::MAX] {
            let urls: Vec<String> = builtin("http://h:1/", seed).collect();
            assert_eq!(urls.len(), 1000);
            assert_eq!(urls.iter().collect::<HashSet<_>>().len(), 1000);
            assert!(urls[17].starts_with("http://h:1/17?delay="), "{}", urls[17]);
            let mut delays: Vec<u64> = urls.iter().map(|url| parts(url).0).collect();
            assert_eq!(delays.iter().sum::<u64>(), 8_000_000);
            delays.sort_unstable();
            assert!((6_400..7_700).contains(&delays[500]), "{}", delays[500]);
            assert!(delays[0] > 500 && delays[999] < 80_000, "{delays:?}");
            let sizes: Vec<u64> = urls.iter().map(|url| parts(url).1).collect();
            assert!(sizes.iter().all(|size| (1024..=65_536).contains(size)));
            let mean = sizes.iter().sum::<u64>() / 1000;
            assert!((30_000..36_600).contains(&mean), "{mean}");
            for url in &urls {
                let (_, query) = url.split_once('?').unwrap();
                query::parse(query).unwrap();
            }
        }
    }

    #[test]
    fn at_once_only_the_delays_are_gone() {
        let slow = builtin("http://h:1/", 7).map(|url| {
            let (path, query) = url.split_once("?delay=").unwrap();
            format!("{path}?{}", query.split_once('&').unwrap().1)
        });
        assert!(builtin_at_once("http://h:1/", 7).eq(slow));
    }

    #[test]
    fn the_builtin_list_follows_its_seed() {
        assert!(builtin("http://h", 1).eq(builtin("http://h", 1)));
        assert!(builtin("http://h", 1).ne(builtin("http://h", 2)));
    }

    fn args(base: &str) -> UrlsArgs {
        UrlsArgs { base: base.to_owned(), count: 2, delay: None, size: None, params: Vec::new() }
    }

    fn printed(args: &UrlsArgs) -> String {
        let mut out = Vec::new();
        print(args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_are_printed() {
        assert_eq!(printed(&args("http://h:1/")), "http://h:1/0\nhttp://h:1/1\n");
        let full = UrlsArgs {
            count: 1,
            delay: Some("1ms..2ms".to_owned()),
            size: Some("64".to_owned()),
            params: vec!["gzip".to_owned(), "status=503".to_owned()],
            ..args("https://[::1]:8443/deep")
        };
        assert_eq!(
            printed(&full),
            "https://[::1]:8443/deep/0?delay=1ms..2ms&size=64&gzip&status=503\n"
        );
    }

    #[test]
    fn a_reader_that_leaves_ends_the_list_quietly() {
        struct Full(io::ErrorKind);
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        // Ends at the first full buffer: the whole would take hours.
        let endless = UrlsArgs { count: u64::MAX, ..args("http://h") };
        assert!(print(&endless, Full(io::ErrorKind::BrokenPipe)).is_ok());
        let error = print(&endless, Full(io::ErrorKind::StorageFull)).unwrap_err();
        assert!(error.to_string().starts_with("the list cannot be written"));
    }

    #[test]
    fn what_the_origin_would_refuse_is_refused_here() {
        let error = |args: UrlsArgs| template(&args).unwrap_err();
        assert!(error(args("127.0.0.1:8080")).contains("is no base URL"));
        assert!(error(args("ftp://h/")).contains("is no base URL"));
        assert!(error(args("http://h/?a")).contains("is no base URL"));
        let with = |param: &str| UrlsArgs { params: vec![param.to_owned()], ..args("http://h") };
        assert!(error(with("colour=red")).contains("no parameter 'colour'"));
        assert!(error(with("a b")).contains("no white space"));
        assert!(error(with("gzip&chunked")).contains("once for each"));
        let twice = UrlsArgs { size: Some("64".to_owned()), ..with("size=1") };
        assert!(error(twice).contains("given twice"));
    }
}
