//! Bad input ends with code 2, names the line, flag or field and the mend, and nothing is fetched.

use crate::harness::Place;

#[track_caller]
fn refused(place: &Place, args: &[&str], words: &[&str]) {
    refused_with_input(place, args, b"", words);
}

#[track_caller]
fn refused_with_input(place: &Place, args: &[&str], input: &[u8], words: &[&str]) {
    let ran = place.run_with_input(args, input).expect(2);
    assert_eq!(ran.stdout, "");
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is not in:\n{}", ran.stderr);
    }
}

#[test]
fn lists() {
    let place = Place::new();
    refused(&place, &["fetch", "missing.txt"], &["missing.txt", "No such file"]);
    refused(&place, &["fetch", "."], &["directory"]);
    place.write("empty.txt", "# nothing\n\n");
    refused(&place, &["fetch", "empty.txt"], &["empty.txt holds no URL"]);
    let cases: [(&[u8], &[&str]); 9] = [
        (b"http://a/\nexample.com/x\n", &["line 2", "no scheme", "https://example.com/x"]),
        (b"ftp://a/\n", &["line 1", "'ftp'"]),
        (b"http://a/b c\n", &["line 1", "space", "%20"]),
        (b"http://a/\xff\n", &["line 1", "UTF-8"]),
        (b"http://a/\0\n", &["line 1", "U+0000"]),
        (b"http://a:0/\n", &["line 1", "port 0"]),
        (b"http://a:70000/\n", &["line 1", "port"]),
        (b"http:///path\nhttp://\n", &["line 2", "host"]),
        (b"", &["stdin holds no URL"]),
    ];
    for (list, words) in cases {
        refused_with_input(&place, &["fetch", "-"], list, words);
        refused_with_input(&place, &["study", "-"], list, words);
    }
    let long = format!("http://a/{}\n", "x".repeat(1 << 20));
    refused_with_input(&place, &["fetch", "-"], long.as_bytes(), &["line 1", "16384"]);
}

#[test]
fn flags() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/\n");
    let cases: [(&[&str], &[&str]); 22] = [
        (&["fetch", "urls.txt", "--max-per-host", "0"], &["--max-per-host 0", "at least 1"]),
        (&["fetch", "urls.txt", "--max-per-host", "-1"], &["--max-per-host"]),
        (
            &["fetch", "urls.txt", "--rate-per-host", "0"],
            &["--rate-per-host 0", "0.001 to 1000000"],
        ),
        (
            &["fetch", "urls.txt", "--rate-per-host", "-1"],
            &["--rate-per-host -1", "0.001 to 1000000"],
        ),
        (&["fetch", "urls.txt", "--rate-per-host", "NaN"], &["--rate-per-host NaN"]),
        (&["study", "--rate-per-host", "1e12"], &["--rate-per-host 1000000000000"]),
        (
            &["fetch", "urls.txt", "--polite", "--split", "static"],
            &["--split static", "--split dynamic"],
        ),
        (&["study", "--polite"], &["--polite", "--max-per-host"]),
        (&["fetch", "urls.txt", "--contact", "nobody"], &["--contact nobody", "you@example.org"]),
        (
            &["fetch", "urls.txt", "--contact", "a@b", "--user-agent", "x"],
            &["--contact", "--user-agent"],
        ),
        (&["study", "--arm", "fibers:3"], &["'fibers'", "sequential, threads, async, async-mt"]),
        (&["study", "--arm", "threads:8@reqwest"], &["threads:8@ureq or async:8@reqwest"]),
        (&["study", "--arm", "sequential:4"], &["4xsequential", "threads:4"]),
        (&["study", "--arm", "{1,2xasync"], &["never closed"]),
        (&["study", "--concurrency", "0"], &["--concurrency 0"]),
        (&["study", "--blocks", "0"], &["--blocks 0"]),
        (&["study", "--frobnicate"], &["--frobnicate"]),
        (&["fetch", "urls.txt", "--out", "got.xml"], &[".jsonl or .csv"]),
        (&["fetch", "urls.txt", "--out", "no/such/dir/got.csv"], &["no/such/dir/got.csv", "--out"]),
        (&["fetch", "urls.txt", "--timeout", "0s"], &["--timeout 0s"]),
        (&["fetch", "urls.txt", "--header", "x"], &["--header x", "Name: value"]),
        (&["fetch", "urls.txt", "--cacert", "urls.txt"], &["no PEM certificate"]),
    ];
    for (args, words) in cases {
        refused(&place, args, words);
    }
    place.assert_nothing_left();
}

#[test]
fn a_study_directory_that_cannot_be_written_or_is_taken() {
    let place = Place::new();
    refused(&place, &["study", "--out", "/proc/studies"], &["/proc/studies", "--out"]);
    place.write("file", "");
    refused(&place, &["study", "--out", "file/x"], &["file/x"]);
    std::fs::create_dir(place.path("kept")).unwrap();
    place.write("kept/study.json", "{}");
    refused(&place, &["study", "--out", "kept"], &["kept", "already"]);
    refused(&place, &["report", "nowhere"], &["nowhere"]);
    refused(&place, &["report", "kept"], &["kept", "not a study"]);
}

#[test]
fn more_in_flight_than_files_may_be_open() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/\n");
    let program = env!("CARGO_BIN_EXE_coordinator");
    let limited = std::process::Command::new("sh")
        .current_dir(place.path(""))
        .args(["-c", "ulimit -n 256; exec \"$0\" fetch urls.txt --arm async:60000", program])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("hard limit is 256"), "{stderr}");
    assert!(stderr.contains("ulimit -Hn"), "{stderr}");
}

#[test]
fn a_port_in_use_and_a_coordinator_that_is_not_there() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&place, &["origin", "--listen", &address], &[&address]);
    drop(taken);
    let url = format!("http://{address}");
    let ran = place.run(&["worker", "--once", "--coordinator", &url]).expect(3);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}
