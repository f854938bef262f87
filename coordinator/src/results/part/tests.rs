//! A disk in memory that loses power at any operation: of what was written
//! and not synced, any beginning survives, with or without zeros behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use fanout_engine::id_set::IdSet;
use fanout_proto::id::UrlId;
use proptest::prelude::*;

use super::*;

/// A write call takes no more, so that there are moments within a record.
const WRITE_MAX: usize = 100;
const NAME: &str = "got";

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn weight(&self) -> usize {
        match self {
            Self::Write(_, bytes) => bytes.len(),
            Self::Cut(_) => 1,
        }
    }

    /// Applies its first `units`.
    fn apply(&self, content: &mut Vec<u8>, units: usize) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len().min(units);
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(&bytes[..end - at]);
            }
            Self::Cut(length) => content.resize(*length, 0),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Node {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

impl Node {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current, usize::MAX);
        self.pending.push(change);
    }

    fn weight(&self) -> usize {
        self.pending.iter().map(Change::weight).sum()
    }

    fn after(&self, mut units: usize, zeros: bool) -> Vec<u8> {
        let mut content = self.durable.clone();
        for change in &self.pending {
            if units == 0 {
                break;
            }
            change.apply(&mut content, units);
            units = units.saturating_sub(change.weight());
        }
        if zeros {
            content.resize(content.len().max(self.current.len()), 0);
        }
        content
    }
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Debug, Clone, Default)]
struct World {
    nodes: Vec<Node>,
    names: Names,
    /// As they are on disk, and after every change since.
    names_kept: Vec<Names>,
    /// Operations until the power goes.
    left: Option<usize>,
    operations: usize,
    /// Bytes that fit.
    room: Option<usize>,
}

impl World {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn renamed(&mut self, change: impl FnOnce(&mut Names)) {
        if self.names_kept.is_empty() {
            self.names_kept.push(Names::new());
        }
        change(&mut self.names);
        self.names_kept.push(self.names.clone());
    }
}

/// What survives.
#[derive(Debug, Clone)]
struct Choice {
    names: usize,
    /// By node: units of pending changes, and whether zeros follow.
    nodes: Vec<(usize, bool)>,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<World>>);

impl Disk {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.with(|world| world.clone()))))
    }

    /// A copy whose power goes after so many operations.
    fn copy_at(&self, left: usize) -> Self {
        let copy = self.copy();
        copy.with(|world| world.left = Some(left));
        copy
    }

    /// The disk as the next process finds it.
    fn after(&self, choice: &Choice) -> Self {
        self.with(|world| {
            let names = match world.names_kept.len() {
                0 => world.names.clone(),
                kept => world.names_kept[choice.names.min(kept - 1)].clone(),
            };
            let nodes = world.nodes.iter().zip(&choice.nodes);
            let nodes = nodes.map(|(node, (units, zeros))| {
                let content = node.after(*units, *zeros);
                Node { durable: content.clone(), current: content, pending: Vec::new() }
            });
            Self(Arc::new(Mutex::new(World {
                nodes: nodes.collect(),
                names_kept: vec![names.clone()],
                names,
                left: None,
                operations: 0,
                room: world.room,
            })))
        })
    }

    fn weights(&self) -> (usize, Vec<usize>) {
        self.with(|world| {
            let names = world.names_kept.len().saturating_sub(1);
            (names, world.nodes.iter().map(Node::weight).collect())
        })
    }

    fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.with(|world| Some(world.nodes[*world.names.get(path)?].current.clone()))
    }
}

#[derive(Debug)]
struct Open {
    disk: Disk,
    node: usize,
}

impl Files for Disk {
    type File = Open;

    fn open(&self, path: &Path) -> io::Result<Open> {
        let node = self.with(|world| {
            if let Some(node) = world.names.get(path) {
                return Ok(*node);
            }
            let step = world.step();
            let node = world.nodes.len();
            world.nodes.push(Node::default());
            world.renamed(|names| {
                names.insert(path.to_owned(), node);
            });
            step.map(|()| node)
        })?;
        Ok(Open { disk: self.clone(), node })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.with(|world| world.names.contains_key(path)))
    }

    fn is_called(&self, file: &Open, path: &Path) -> io::Result<bool> {
        Ok(self.with(|world| world.names.get(path) == Some(&file.node)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|world| {
            let step = world.step();
            world.renamed(|names| {
                let node = names.remove(from).expect("it is there");
                names.insert(to.to_owned(), node);
            });
            step
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|world| {
            if !world.names.contains_key(path) {
                return Ok(());
            }
            let step = world.step();
            world.renamed(|names| {
                names.remove(path);
            });
            step
        })
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        self.with(|world| {
            world.step()?;
            world.names_kept = vec![world.names.clone()];
            Ok(())
        })
    }
}

impl OpenFile for Open {
    fn lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.with(|world| world.nodes[self.node].current.len() as u64))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.with(|world| {
            let from = usize::try_from(offset).unwrap();
            let content = world.nodes[self.node].current.get(from..).unwrap_or_default();
            let count = content.len().min(bytes.len());
            bytes[..count].copy_from_slice(&content[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.with(|world| {
            let at = usize::try_from(offset).unwrap();
            let used: usize = world.nodes.iter().map(|node| node.current.len()).sum();
            let grows = (at + bytes.len()).saturating_sub(world.nodes[self.node].current.len());
            let short = world.room.map_or(0, |room| (used + grows).saturating_sub(room));
            let count = bytes.len().saturating_sub(short).min(WRITE_MAX);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // Whether a write that the power interrupts took place is anybody's guess.
            let step = world.step();
            world.nodes[self.node].change(Change::Write(at, bytes[..count].to_vec()));
            step.map(|()| count)
        })
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.with(|world| {
            let step = world.step();
            let length = usize::try_from(length).unwrap();
            world.nodes[self.node].change(Change::Cut(length));
            step
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.with(|world| {
            world.step()?;
            let node = &mut world.nodes[self.node];
            node.durable = node.current.clone();
            node.pending.clear();
            Ok(())
        })
    }
}

fn list(urls: u64) -> ListIdentity {
    ListIdentity { name: "urls.txt".to_owned(), sha256: "5a".repeat(32), urls, repeat: 1 }
}

fn record(form: Form, id: u64) -> String {
    match form {
        Form::Jsonl => {
            format!(
                r#"{{"id":{id},"url":"http://a/","outcome":"ok","status":200,"bytes":1,"start_s":0.1,"first_byte_s":null,"end_s":0.2,"worker":"w","fetcher":0,"attempt":1}}"#
            ) + "\n"
        }
        Form::Csv => format!("{id},http://a/,ok,200,1,0.1,,0.2,w,0,1\n"),
    }
}

/// A fetch as it goes from one start of the process to its end.
struct Fetch {
    form: Form,
    urls: u64,
    /// Records in a piece, and pieces between two syncs.
    piece: usize,
    sync_after: usize,
    /// What was promised.
    acknowledged: BTreeSet<u64>,
}

impl Fetch {
    /// Runs until it is whole or the power goes.
    fn run(&mut self, disk: &Disk, resume: bool) -> Result<(), String> {
        let path = Path::new(NAME);
        let told = |error: PartError| error.to_string();
        let (mut part, done) =
            match Claim::of(disk.clone(), path, self.form, resume).map_err(told)? {
                Claimed::Whole => return Ok(()),
                Claimed::Fresh(claim) => {
                    assert!(self.acknowledged.is_empty(), "a promise was forgotten");
                    (claim.begin(&list(self.urls)).map_err(told)?, IdSet::new(self.urls))
                }
                Claimed::Begun(claim, journal) => {
                    assert!(journal.header.list.is_same(&list(self.urls)));
                    let (part, recovered) = claim.go_on(&journal).map_err(told)?;
                    (part, recovered.done)
                }
            };
        let lost = self.acknowledged.iter().find(|id| !done.contains(UrlId(**id)));
        assert_eq!(lost, None, "an acknowledged record is gone");
        // Not in order, as completions come.
        let ids: Vec<_> = (0..self.urls).rev().filter(|id| !done.contains(UrlId(*id))).collect();
        let mut written = Vec::new();
        for (number, ids) in ids.chunks(self.piece).enumerate() {
            let piece: String = ids.iter().map(|id| record(self.form, *id)).collect();
            part.append(piece.as_bytes()).map_err(|e| e.to_string())?;
            written.extend_from_slice(ids);
            if (number + 1) % self.sync_after == 0 {
                part.sync().map_err(|e| e.to_string())?;
                self.acknowledged.extend(written.drain(..));
            }
        }
        part.finish(true).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn assert_whole(&self, disk: &Disk) {
        let content = disk.content(Path::new(NAME)).expect("it is whole");
        let found = recover(&content[..], self.form, self.urls, content.len() as u64).unwrap();
        assert!(found.done.is_full(), "every record is there, and once");
    }

    /// The next process goes on, and comes to the end.
    #[track_caller]
    fn assert_goes_on(&mut self, disk: &Disk) {
        self.run(disk, true).unwrap();
        self.assert_whole(disk);
        assert!(disk.content(&part_name(Path::new(NAME))).is_none());
    }
}

fn fetch(form: Form, urls: u64) -> Fetch {
    Fetch { form, urls, piece: 1, sync_after: 2, acknowledged: BTreeSet::new() }
}

/// Every beginning of every file's and of the names' pending changes, the
/// others being lost or there. Of those longer than `long`, some.
fn choices(disk: &Disk, long: usize) -> Vec<Choice> {
    let (names, weights) = disk.weights();
    let mut all = Vec::new();
    for kept in 0..=names {
        for rest in [0, 1] {
            let base = weights.iter().map(|weight| (weight * rest, false));
            let base: Vec<_> = base.collect();
            for (node, weight) in weights.iter().enumerate() {
                let step = if *weight > long { 83 } else { 1 };
                for units in (0..=*weight).step_by(step) {
                    for zeros in [false, true] {
                        let mut nodes = base.clone();
                        nodes[node] = (units, zeros);
                        all.push(Choice { names: kept, nodes });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn whenever_the_power_goes_nothing_acknowledged_is_lost_and_nothing_doubled() {
    for form in [Form::Jsonl, Form::Csv] {
        let mut tried = 0;
        for left in 0.. {
            let disk = Disk::default();
            disk.with(|world| world.left = Some(left));
            let mut begun = fetch(form, 4);
            if begun.run(&disk, false).is_ok() {
                break;
            }
            // Two records are shorter, and every byte of a header is as good as the next.
            for choice in choices(&disk, 300) {
                let disk = disk.after(&choice);
                let mut next = fetch(form, 4);
                next.acknowledged.clone_from(&begun.acknowledged);
                next.assert_goes_on(&disk);
                tried += 1;
            }
        }
        println!("{}: {tried} crashes", form.name());
        assert!(tried > 5_000, "{tried}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_fetch_that_loses_power_again_and_again_comes_to_its_end(
        csv in any::<bool>(),
        urls in 1_u64..60,
        piece in 1_usize..8,
        sync_after in 1_usize..6,
        losses in prop::collection::vec((0_usize..120, any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()), 0..8),
    ) {
        let form = if csv { Form::Csv } else { Form::Jsonl };
        let mut fetch = Fetch { piece, sync_after, ..fetch(form, urls) };
        let mut disk = Disk::default();
        for (left, names, part, journal, zeros) in losses {
            disk.with(|world| world.left = Some(left));
            if fetch.run(&disk, true).is_ok() {
                break;
            }
            let (names_max, weights) = disk.weights();
            let some = |of: usize, pick: u32| pick as usize % (of + 1);
            let nodes = weights.iter().enumerate();
            disk = disk.after(&Choice {
                names: some(names_max, names),
                nodes: nodes.map(|(n, w)| (some(*w, if n % 2 == 0 { part } else { journal }), zeros)).collect(),
            });
        }
        disk.with(|world| world.left = None);
        fetch.assert_goes_on(&disk);
    }
}

#[test]
fn a_full_disk_leaves_whole_records_and_room_is_all_it_takes_to_go_on() {
    for form in [Form::Jsonl, Form::Csv] {
        for room in 2048..4000 {
            let disk = Disk::default();
            disk.with(|world| world.room = Some(room));
            let mut fetch = fetch(form, 8);
            if fetch.run(&disk, false).is_ok() {
                break;
            }
            let part = disk.content(&part_name(Path::new(NAME))).unwrap_or_default();
            assert!(
                part.last().is_none_or(|last| *last == b'\n') || part.len() < form.head().len()
            );
            disk.with(|world| world.room = None);
            fetch.assert_goes_on(&disk);
        }
    }
}

/// A part with two records that are acknowledged, and one more.
fn begun(form: Form) -> Disk {
    let disk = Disk::default();
    let claimed = Claim::of(disk.clone(), Path::new(NAME), form, false).unwrap();
    let Claimed::Fresh(claim) = claimed else { panic!("nothing was there") };
    let mut part = claim.begin(&list(9)).unwrap();
    part.append((record(form, 3) + &record(form, 7)).as_bytes()).unwrap();
    part.sync().unwrap();
    part.append(record(form, 1).as_bytes()).unwrap();
    disk
}

fn rewrite(disk: &Disk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    disk.with(|world| {
        let node = world.names[path];
        change(&mut world.nodes[node].current);
    });
}

fn error_of(disk: &Disk, form: Form, resume: bool) -> String {
    match Claim::of(disk.clone(), Path::new(NAME), form, resume) {
        Ok(Claimed::Begun(claim, journal)) => claim.go_on(&journal).map(|_| ()).unwrap_err(),
        Ok(_) => panic!("it is begun"),
        Err(error) => error,
    }
    .to_string()
}

#[test]
fn damage_to_what_was_acknowledged_is_an_error_and_changes_nothing() {
    let part = part_name(Path::new(NAME));
    let disk = begun(Form::Jsonl);
    let whole = disk.content(&part).unwrap();
    let safe = 2 * record(Form::Jsonl, 3).len();
    for (at, is_safe) in [(0, true), (safe / 2 + 5, true), (safe - 1, true), (safe + 3, false)] {
        let disk = disk.copy();
        rewrite(&disk, &part, |content| content[at] = 0);
        if is_safe {
            let error = error_of(&disk, Form::Jsonl, true);
            assert!(error.contains("were safely on disk"), "{error}");
            assert_eq!(disk.content(&part).unwrap().len(), whole.len());
        } else {
            let mut fetch = fetch(Form::Jsonl, 9);
            fetch.acknowledged = BTreeSet::from([3, 7]);
            fetch.assert_goes_on(&disk);
        }
    }
    rewrite(&disk, &part, |content| content.truncate(safe - 1));
    assert!(error_of(&disk, Form::Jsonl, true).contains("is damaged"));
}

#[test]
fn a_part_that_may_hold_records_is_never_overwritten() {
    let disk = begun(Form::Jsonl);
    insta::assert_snapshot!(error_of(&disk, Form::Jsonl, false), @"got.part holds the records of a fetch that did not come to its end: go on with it by adding --resume, or remove it to start from the beginning");
    insta::assert_snapshot!(error_of(&disk, Form::Csv, true), @"got.part holds records as JSON lines, and --out asks for CSV");
    let journal = journal_name(Path::new(NAME));
    rewrite(&disk, &journal, |content| content[20] ^= 1);
    insta::assert_snapshot!(error_of(&disk, Form::Jsonl, true), @"got.part.journal is damaged, and without it nobody can tell which list the records in got.part are of; move got.part away to start from the beginning");
    disk.remove(&journal).unwrap();
    insta::assert_snapshot!(error_of(&disk, Form::Jsonl, true), @"got.part.journal is missing, and without it nobody can tell which list the records in got.part are of; move got.part away to start from the beginning");
}

#[test]
fn a_journal_that_outlived_its_part_promises_nothing() {
    let disk = begun(Form::Csv);
    disk.remove(&part_name(Path::new(NAME))).unwrap();
    let (names, nodes) = disk.weights();
    let disk = disk
        .after(&Choice { names, nodes: nodes.into_iter().map(|weight| (weight, false)).collect() });
    for left in 0.. {
        let disk = disk.copy_at(left);
        let mut begun = fetch(Form::Csv, 4);
        let ended = begun.run(&disk, false);
        for choice in choices(&disk, 0) {
            let disk = disk.after(&choice);
            let mut next = fetch(Form::Csv, 4);
            next.acknowledged.clone_from(&begun.acknowledged);
            next.assert_goes_on(&disk);
        }
        if ended.is_ok() {
            break;
        }
    }
}

#[test]
fn two_processes_do_not_write_one_part() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("got.jsonl");
    let first = Claim::of(System, &path, Form::Jsonl, false).unwrap();
    let second = Claim::of(System, &path, Form::Jsonl, false);
    assert!(matches!(second, Err(PartError::Taken(_))));
    let Claimed::Fresh(claim) = first else { panic!("nothing was there") };
    claim.begin(&list(1)).unwrap().finish(false).unwrap();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    let third = Claim::of(System, &path, Form::Jsonl, true).unwrap();
    assert!(matches!(third, Claimed::Fresh(_)));
}
