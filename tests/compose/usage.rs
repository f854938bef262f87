//! What the README shows.

use serde_json::{Value, json};

use crate::project::{Project, Scenario, docker, inspect, wait_for};

pub(crate) fn tests() -> Vec<Scenario> {
    vec![
        ("the_image_is_small_and_runs_as_nobody", the_image),
        ("up_runs_the_default_study", up),
        ("containers_have_no_rights", no_rights),
        ("every_service_is_found_healthy", healthy),
        ("run_runs_any_study", any_study),
        ("run_fetches_a_list_of_ones_own", a_list),
        ("limits_of_a_container_stand_in_the_study", limits),
        ("workers_come_and_go_during_a_study", come_and_go),
    ]
}

const IMAGE_MAX_BYTES: u64 = 30 << 20;

fn the_image(project: &Project) {
    let image = inspect(&project.image());
    assert!(image["Size"].as_u64().unwrap() <= IMAGE_MAX_BYTES, "{}", image["Size"]);
    let config = &image["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/coordinator"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "fanout");
    let version = docker(&["run", "--rm", "--read-only", &project.image(), "--version"]);
    assert!(version.starts_with("coordinator "), "{version}");
}

fn up(project: &Project) {
    project.up();
    let study = project.container("study");
    assert_eq!(docker(&["wait", &study]), "0", "{}", docker(&["logs", &study]));
    let said = docker(&["logs", &study]);
    for expected in ["1,000 URLs (built-in)", "switches", "baseline", "32xsequential", "How sure"] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
    // Everything else is still there, and the pages list the study.
    project.wait_for_workers(2);
    let front = project.page("/");
    let (_, after) = front.split_once("/studies/").expect("a link to the study");
    let (name, _) = after.split_once("/report.html").expect("its report");
    assert!(project.page(&format!("/studies/{name}/report.html")).starts_with("HTTP/1.1 200"));
    assert!(project.containers("fetch").is_empty());
}

fn no_rights(project: &Project) {
    project.up();
    for service in ["origin", "coordinator", "worker"] {
        let container = inspect(&project.container(service));
        let host = &container["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["CapDrop"], json!(["ALL"]), "{service}");
        // What the kernel says of the process.
        let status = std::fs::read_to_string(format!("/proc/{}/status", container["State"]["Pid"]));
        let status = status.expect("the engine runs on this machine");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].trim().replace('\t', " ")
        };
        assert_eq!(field("Uid:"), "65532 65532 65532 65532", "{service}");
        assert_eq!(field("CapEff:"), "0000000000000000", "{service}");
        assert_eq!(field("CapBnd:"), "0000000000000000", "{service}");
        assert_eq!(field("NoNewPrivs:"), "1", "{service}");
    }
    // Published for this machine alone, and nothing but the pages.
    let ports = &inspect(&project.container("coordinator"))["HostConfig"]["PortBindings"];
    let ports = ports.as_object().unwrap();
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["8080/tcp"]);
    assert_eq!(ports["8080/tcp"][0]["HostIp"], "127.0.0.1");
}

fn healthy(project: &Project) {
    project.up();
    for service in ["origin", "coordinator", "worker"] {
        for container in project.containers(service) {
            wait_for("a healthy container", || {
                let health = inspect(&container)["State"]["Health"].clone();
                (health["Status"] == "healthy").then_some(())
            });
        }
    }
    // A worker that is not attached is not.
    let (worker, coordinator) = (project.container("worker"), project.container("coordinator"));
    let ask = |name: &str| {
        let flag = format!("--worker={name}");
        let probe =
            format!("docker exec {worker} /coordinator health {flag} >/dev/null 2>&1; echo $?");
        let ran = std::process::Command::new("sh").args(["-c", &probe]).output().unwrap();
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    };
    assert_eq!((ask("nobody"), ask("")), ("3".to_owned(), "0".to_owned()), "{coordinator}");
}

/// The trials that count, each of them whole.
#[track_caller]
pub(crate) fn assert_sound(study: &Value, urls: u64) {
    for trial in study["trials"].as_array().unwrap() {
        let which = (&trial["arm"], &trial["block"], &trial["completed"]);
        let counts = trial["valid"] == true;
        assert!(!counts || trial["degraded"] == false, "{which:?}");
        assert!(!counts || trial["completed"] == urls, "{which:?}");
    }
}

fn any_study(project: &Project) {
    project.up();
    let args = ["--arm", "{1,2}xasync:8", "--blocks", "2"];
    let ran = project.run_service("study", &args, "").finish().expect(0);
    assert!(ran.stdout.contains("2xasync:8"), "{ran}");
    let report = format!("report: {}/studies/", project.pages());
    let (_, told) = ran.stderr.split_once(&report).unwrap_or_else(|| panic!("{ran}"));
    let name = told.lines().next().unwrap();
    assert!(project.page(&format!("/studies/{name}")).starts_with("HTTP/1.1 200"), "{name}");
}

/// `count` URLs of the origin.
pub(crate) fn list(count: u64, query: &str) -> String {
    (0..count).map(|id| format!("http://origin:8080/{id}?{query}\n")).collect()
}

fn a_list(project: &Project) {
    project.up();
    let input = list(300, "size=10");
    let args = ["-", "--arm", "4xasync:8"];
    let ran = project.run_service("fetch", &args, &input).finish().expect(0);
    ran.assert_each_once(300);
    project.write("urls.txt", &input);
    let ran = project.run_service("fetch", &["urls.txt"], "").finish().expect(0);
    ran.assert_each_once(300);
    // Both workers took part, under names of their own.
    let workers = project.wait_for_workers(2);
    let args = ["-", "--arm", "2xasync:8"];
    let ran = project.run_service("fetch", &args, &list(100, "delay=5ms")).finish().expect(0);
    for worker in workers {
        assert!(ran.stdout.contains(&format!("\"worker\":\"{worker}\"")), "{worker}: {ran}");
    }
}

fn limits(project: &Project) {
    project.up();
    let limits = "services:\n  worker:\n    mem_limit: 128m\n    cpus: 1.5\n";
    let file = project.write("limits.yml", limits);
    let up = ["up", "--detach", "--no-build", "--no-deps", "--scale", "worker=1", "worker"];
    project.compose_with(&file, &up).expect(0);
    project.wait_for_workers(1);
    let worker = &project.status()["workers"][0];
    assert_eq!(worker["cgroup_memory_bytes"], 128 << 20);
    assert_eq!(worker["cgroup_cpus"], 1.5);
    let args = ["--arm", "async:4", "--blocks", "2", "--format", "json", "--yes", "-"];
    let ran = project.run_service("study", &args, &list(50, "")).finish();
    let study = ran.study();
    let limited = &study["manifest"]["workers"][0]["machine"];
    assert_eq!(limited["cgroup_memory_bytes"], 128 << 20, "{limited}");
    assert_eq!(limited["cgroup_cpus"], 1.5, "{limited}");
    // What does not fit ends for want of memory, and is called that.
    let args = ["-", "--arm", "4xthreads:1000@ureq"];
    let fetch = project.run_service("fetch", &args, &list(12_000, "delay=2s"));
    wait_for("a fetcher killed for want of memory", || {
        let said = project.compose(&["logs", "--no-color", "coordinator"]);
        said.stdout.contains("out-of-memory killer").then_some(())
    });
    // It would go on with fewer and fewer that fit.
    let jobs = project.status()["jobs"].clone();
    let job = jobs.as_array().and_then(|jobs| jobs.last()).expect("a job")["id"].to_string();
    let exec = ["exec", "-T", "coordinator", "/coordinator", "cancel", "--at-once", &job];
    project.compose(&exec).expect(0);
    assert_eq!(fetch.finish().code, Some(130));
}

fn come_and_go(project: &Project) {
    project.up();
    let args = ["--arm", "4xasync:4", "--blocks", "12", "--format", "json", "--yes", "-"];
    let study = project.run_service("study", &args, &list(400, "delay=25ms"));
    let name = project.running_job()["study"].as_str().unwrap().to_owned();
    // The record so far tells who was there in the last block.
    let used = |count: usize| {
        wait_for(&format!("a block on {count} workers"), || {
            let so_far = project.study_so_far(&name)?;
            let trial = so_far["trials"].as_array()?.last()?.clone();
            let valid = trial["degraded"] == false;
            (valid && trial["workers"].as_array()?.len() == count).then_some(())
        });
    };
    used(2);
    project.scale(4);
    used(4);
    project.scale(1);
    used(1);
    let ran = study.finish().expect(0);
    let study = ran.study();
    assert_sound(&study, 400);
    let workers = study["manifest"]["workers"].as_array().unwrap();
    let that = |field: &str| workers.iter().filter(|w| w[field].is_u64()).count();
    assert_eq!((workers.len(), that("joined_block"), that("left_block")), (4, 2, 3), "{workers:?}");
}
