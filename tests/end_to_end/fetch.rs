use std::collections::BTreeSet;

use crate::harness::{Place, read, records};

#[test]
fn every_url_gets_one_record() {
    let place = Place::new();
    let origin = place.origin();
    let list: String = (0..300)
        .map(|i| match i % 3 {
            0 => format!("{}/{i}?size=100\n", origin.base),
            1 => format!("{}/{i}?status=404&size=3\n", origin.base),
            _ => format!("{}/{i}?reset\n", origin.base),
        })
        .collect();
    let path = place.write("urls.txt", &list);
    for arm in [
        "async:16",
        "4xthreads:4",
        "8xsequential",
        "2xasync-mt:4",
        "threads:8@ureq",
        "async:8@reqwest",
    ] {
        let ran = place.run(&["fetch", path.to_str().unwrap(), "--arm", arm]).expect(0);
        let records = ran.records();
        let ids: BTreeSet<_> = records.iter().map(|r| r["id"].as_u64().unwrap()).collect();
        assert_eq!(records.len(), 300, "{arm}");
        assert_eq!(ids, (0..300).collect(), "{arm}");
        let lines: Vec<_> = list.lines().collect();
        for record in &records {
            let id = record["id"].as_u64().unwrap();
            assert_eq!(record["url"], lines[usize::try_from(id).unwrap()]);
            let (outcome, status, bytes) = match id % 3 {
                0 => ("ok", serde_json::json!(200), 100),
                1 => ("ok", serde_json::json!(404), 3),
                _ => ("closed", serde_json::Value::Null, 0),
            };
            assert_eq!(record["outcome"], outcome, "{arm}: {record}");
            assert_eq!(record["status"], status, "{arm}: {record}");
            assert_eq!(record["bytes"], bytes, "{arm}: {record}");
            assert_eq!(record["attempt"], 1);
            let time = |name: &str| record[name].as_f64();
            assert!(time("start_s") <= time("end_s"), "{record}");
            if outcome == "ok" {
                assert!(time("start_s") <= time("first_byte_s"), "{record}");
                assert!(time("first_byte_s") <= time("end_s"), "{record}");
            }
        }
        assert!(
            ran.stderr.contains("300 URLs: 200 ok, 100 failed, 0 abandoned, 0 not done"),
            "{}",
            ran.stderr
        );
    }
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn results_go_to_a_file_of_the_form_that_its_name_says() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(20, "size=1k"));
    let ran = place.run(&["fetch", "urls.txt", "--repeat", "3", "--out", "got.csv"]).expect(0);
    assert_eq!(ran.stdout, "");
    let csv = read(&place.path("got.csv"));
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("id,url,outcome,status,bytes,start_s,first_byte_s,end_s,worker,fetcher,attempt")
    );
    assert_eq!(lines.count(), 60);
    place.run(&["fetch", "urls.txt", "--out", "got.jsonl"]).expect(0);
    assert_eq!(records(&read(&place.path("got.jsonl"))).len(), 20);
    assert!(!place.path("got.jsonl.part").exists());
}

#[test]
fn a_list_comes_from_standard_input_and_is_told_as_it_goes() {
    let place = Place::new();
    let origin = place.origin();
    let list = format!("# slow, then fast\n{0}/slow?delay=300ms\n\n{0}/fast?size=5\n", origin.base);
    let ran =
        place.run_with_input(&["fetch", "-", "-v", "--arm", "async:2"], list.as_bytes()).expect(0);
    let done: Vec<_> = ran.stderr.lines().filter(|l| l.starts_with("done")).collect();
    assert!(done[0].contains("/fast"), "{done:?}");
    assert!(done[1].contains("/slow"), "{done:?}");
    assert_eq!(ran.stderr.lines().filter(|l| l.starts_with("start")).count(), 2);
    assert_eq!(ran.records()[0]["id"], 1);
}

#[test]
fn invalid_lines_can_be_left_out() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", format!("nope\n{}/a\nftp://b\n", origin.base));
    let ran = place.run(&["fetch", "urls.txt", "--skip-invalid"]).expect(0);
    assert_eq!(ran.records().len(), 1);
    assert!(ran.stderr.contains("left out 2 lines"), "{}", ran.stderr);
}

#[test]
fn headers_methods_and_limits_reach_the_wire() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(4, "size=100k"));
    let ran = place.run(&["fetch", "urls.txt", "--max-body", "10k"]).expect(0);
    assert!(ran.records().iter().all(|r| r["outcome"] == "too_large"));
    let ran = place.run(&["fetch", "urls.txt", "--method", "HEAD"]).expect(0);
    assert!(ran.records().iter().all(|r| r["outcome"] == "ok" && r["bytes"] == 0));
    place.write("slow.txt", origin.list(4, "delay=20s"));
    let ran = place.run(&["fetch", "slow.txt", "--timeout", "200ms"]).expect(0);
    assert!(ran.records().iter().all(|r| r["outcome"] == "timeout"));
    place.write("hops.txt", origin.list(4, "redirect=3&size=7"));
    let ran = place.run(&["fetch", "hops.txt"]).expect(0);
    assert!(ran.records().iter().all(|r| r["status"] == 200 && r["bytes"] == 7));
    let ran = place.run(&["fetch", "hops.txt", "--redirects", "2"]).expect(0);
    assert!(ran.records().iter().all(|r| r["outcome"] == "redirect_limit"));
}

#[test]
fn static_shards_and_several_workers_do_the_same_work() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(500, "delay=1ms"));
    let ran = place
        .run(&[
            "fetch",
            "urls.txt",
            "--arm",
            "4xasync:8",
            "--local-workers",
            "2",
            "--split",
            "static",
        ])
        .expect(0);
    let records = ran.records();
    let ids: BTreeSet<_> = records.iter().map(|r| r["id"].as_u64().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (500, 500));
    let workers: BTreeSet<_> = records.iter().map(|r| r["worker"].as_str().unwrap()).collect();
    assert_eq!(workers, BTreeSet::from(["local-1", "local-2"]));
    let per_fetcher = |f: u64| records.iter().filter(|r| r["fetcher"] == f).count();
    assert_eq!([0, 1, 2, 3].map(per_fetcher), [125; 4]);
}

#[test]
fn the_null_client_runs_the_machinery_alone() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(1000));
    let ran =
        place.run(&["fetch", "urls.txt", "--arm", "2xasync:8@null", "--repeat", "20"]).expect(0);
    assert_eq!(ran.records().len(), 20_000);
}
