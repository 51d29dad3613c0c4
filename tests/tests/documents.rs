//! Pages that describe formats say what the programs do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Instance, have};

/// Of each section of `docs/entries.md` that has a table of members, by its heading: the members, and whether each may be
/// absent.
fn described() -> BTreeMap<String, BTreeMap<String, bool>> {
    let page = fs::read_to_string("../docs/entries.md").unwrap();
    let mut sections = BTreeMap::new();
    let mut heading = None;
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line.split('`').nth(1).map(str::to_owned);
            heading.iter().for_each(|h| drop(sections.insert(h.clone(), BTreeMap::new())));
        } else if let (Some(heading), Some(row)) = (&heading, line.strip_prefix("| `")) {
            let (member, rest) = row.split_once('`').unwrap();
            let members: &mut BTreeMap<String, bool> = sections.get_mut(heading).unwrap();
            let twice = members.insert(member.to_owned(), rest.contains("may be absent"));
            assert_eq!(twice, None, "{heading}: {member} stands there twice");
        }
    }
    sections
}

/// The same of the second verifier, whose tables every log of the tests has to fit.
fn verified() -> BTreeMap<String, BTreeMap<String, bool>> {
    let program = r#"
import json, sys
sys.path.insert(0, "verifier")
import verify_log as v

def walk(shape, path, optional, out):
    if shape is v.ACTIONS:
        out[path] = optional
    elif isinstance(shape, list):
        walk(shape[0], path + "[]", optional, out)
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            walk(inner, (path + "." if path else "") + name.rstrip("?"), optional or name.endswith("?"), out)
    else:
        out[path] = optional
    return out

tables = {kind: walk(shape, "", False, {}) for kind, shape in v.KINDS.items() if shape is not v.EVENTS}
tables["event"] = walk(v.EVENT, "", False, {})
for action, shape in v.ACTIONS.items():
    tables["action." + action] = walk(shape, "", False, {})
for event, shape in v.EVENTS.items():
    own = {name: inner for name, inner in shape.items() if name not in v.EVENT}
    tables[event] = walk(own, "", False, {})
print(json.dumps(tables))
"#;
    let ran = Command::new("python3").args(["-B", "-c", program]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn the_page_about_entries_names_every_member_of_every_entry_and_no_other() {
    let (mut described, verified) = (described(), verified());
    // An object may be absent as a whole, but for the items of a list; the page says so at its first member.
    for (heading, members) in &mut described {
        let absent: Vec<String> = members.iter().filter(|m| *m.1).map(|m| m.0.clone()).collect();
        for first in absent {
            let Some((object, _)) = first.split_once('.').filter(|(object, _)| !object.ends_with("[]"))
            else {
                continue;
            };
            let inside = |name: &String| name.starts_with(&format!("{object}."));
            members.iter_mut().filter(|m| inside(m.0)).for_each(|m| *m.1 = true);
        }
        let Some(expected) = verified.get(heading) else { panic!("{heading} is no kind of entry") };
        assert_eq!(members, expected, "{heading}");
    }
    let missing: Vec<_> = verified.keys().filter(|heading| !described.contains_key(*heading)).collect();
    assert!(missing.is_empty(), "the page has no section for {missing:?}");
}

/// A file of records as `docs/state-formats.md` describes it: kinds and bodies, the heads of appends taken off.
fn records(path: &Path, magic: &[u8; 8]) -> Vec<(u8, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    assert_eq!((&bytes[..8], &bytes[8..12]), (&magic[..], &[0, 0, 0, 2][..]), "{}", path.display());
    let (mut records, mut rest) = (Vec::new(), &bytes[12..]);
    while !rest.is_empty() {
        let (kind, head) = record(&mut rest);
        assert_eq!((kind, head.len()), (0, 8), "an append begins with its head");
        let length = number(&head[..4]);
        let mut append = rest.get(..length).expect("an append as long as its head says");
        assert_eq!(crc32c(append) as usize, number(&head[4..]));
        rest = &rest[length..];
        while !append.is_empty() {
            records.push(record(&mut append));
        }
    }
    records
}

fn record(bytes: &mut &[u8]) -> (u8, Vec<u8>) {
    let length = number(&bytes[..4]);
    let content = &bytes[8..8 + length];
    assert_eq!(crc32c(content) as usize, number(&bytes[4..8]));
    *bytes = &bytes[8 + length..];
    (content[0], content[1..].to_vec())
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
}

/// CRC-32C, bit by bit (RFC 3720, B.4): another program than the one that wrote the files.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[test]
fn the_page_about_state_describes_spool_and_journal_to_the_byte() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let signed = service.signed().len();
    assert_eq!(service.stop(), 0);

    let spool = records(&service.dir().join("log/state/spool/00000000000000000000.seg"), b"chancSPL");
    let epochs = spool.iter().filter(|r| r.0 == 3).map(|r| number(&r.1));
    assert_eq!(spool[0], (1, vec![0; 32]), "the first segment's opening: four zeros and no hash");
    assert_eq!(epochs.collect::<Vec<_>>(), [1, 2], "a lease of init, and one of the daemon");
    let leaves: Vec<&Vec<u8>> = spool.iter().filter(|r| r.0 == 2).map(|r| &r.1).collect();
    let kinds = leaves.iter().map(|leaf| record::Leaf::decode(leaf).unwrap().kind());
    assert_eq!(kinds.filter(|kind| *kind == "hashedrekord").count(), signed);

    let journal = records(&service.dir().join("signing/state/journal"), b"chancjnl");
    assert_eq!(journal[0].0, 1);
    let start: serde_json::Value = serde_json::from_slice(&journal[0].1).unwrap();
    let members: Vec<_> = start.as_object().unwrap().keys().map(String::as_str).collect();
    let page = fs::read_to_string("../docs/state-formats.md").unwrap();
    let row = page.lines().find(|line| line.starts_with("| 1 | `schema`")).unwrap();
    for member in &members {
        assert!(row.contains(member), "the page does not name {member}");
    }
    let seal = fs::read(service.dir().join("data/seal")).unwrap();
    assert_eq!((seal.len(), seal.last()), (4096, Some(&b'\n')));
    assert_eq!(std::str::from_utf8(&seal).unwrap().trim_end(), r#"{"state":"stopped"}"#);
    let opened: usize = journal
        .iter()
        .filter(|r| r.0 == 3)
        .map(|r| String::from_utf8_lossy(&r.1).matches("\"opened\"").count())
        .sum();
    assert_eq!(opened, signed, "each signature was reserved");
}

/// Of the table in a section of `docs/state-formats.md`: what the second cell names, by each name in the first one.
fn named_in(section: &str) -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string("../docs/state-formats.md").unwrap();
    let start = page.find(&format!("\n{section}\n")).unwrap() + section.len() + 2;
    let length = page[start..].find("\n#").unwrap();
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = page[start..start + length].lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').collect::<Vec<_>>())
        .flat_map(|cells| words(cells[1]).into_iter().map(|name| (name, words(cells[2]))).collect::<Vec<_>>())
        .collect()
}

/// The names in front of `:` or of a type in the lines of a declaration that begins with these words.
fn declared(source: &str, words: &str, indented: usize) -> BTreeSet<String> {
    let start = source.find(words).unwrap_or_else(|| panic!("no {words:?} there")) + words.len();
    let indent = " ".repeat(indented);
    let lines = source[start..].lines().take_while(|line| !line.trim_start().starts_with('}'));
    let member = |line: &str| {
        let line = line.strip_prefix(&indent)?.trim_start_matches("pub(super) ");
        Some(line.split_once(':')?.0.to_owned())
    };
    lines
        .filter(|line| !line.trim_start().starts_with("//") && !line.contains("#["))
        .filter_map(member)
        .collect()
}

#[test]
fn the_page_about_state_names_every_column_of_the_database() {
    let schema = fs::read_to_string("../signer/chanceryd/src/store/schema.sql").unwrap();
    let mut tables = BTreeMap::new();
    for table in schema.split("CREATE TABLE ").skip(1) {
        let (name, rest) = table.split_once(" (").unwrap();
        let (columns, _) = rest.split_once(") STRICT").unwrap();
        let columns = columns.split([',', '\n']).filter_map(|column| column.trim().split_once(' '));
        let columns =
            columns.map(|(column, _)| column).filter(|word| word.chars().all(|c| !c.is_uppercase()));
        tables.insert(name.to_owned(), columns.map(str::to_owned).collect::<BTreeSet<_>>());
    }
    assert!(tables.len() > 10, "{tables:?}");
    assert_eq!(named_in("## Database"), tables);
}

#[test]
fn the_page_about_state_names_every_member_of_every_object_in_a_journal() {
    let source = |file: &str| fs::read_to_string(format!("../signer/keeper/src/sign/{file}.rs")).unwrap();
    let (state, chain) = (source("state"), source("chain"));
    let structs = [
        (&state, "Seen", vec!["seen", "followed"]),
        (&state, "Open", vec!["item"]),
        (&state, "Window", vec!["window"]),
        (&chain, "Step", vec!["confirmed", "taken"]),
        (&chain, "Link", vec!["link"]),
        (&chain, "Base", vec!["base", "below"]),
    ];
    let mut objects: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (source, name, called) in structs {
        let members = declared(source, &format!("struct {name} {{\n"), 4);
        objects.extend(called.into_iter().map(|called| (called.to_owned(), members.clone())));
    }
    let changes = &state[state.find("enum Change {").unwrap()..];
    let changes = &changes[..changes.find("\n}").unwrap()];
    for change in changes.lines().filter_map(|line| line.strip_prefix("    ")) {
        let Some((name, _)) =
            change.split_once([' ', '(']).filter(|_| change.starts_with(char::is_uppercase))
        else {
            continue;
        };
        if change.ends_with('{') {
            objects.insert(name.to_lowercase(), declared(changes, &format!("    {name} {{\n"), 8));
        }
        assert!(
            objects.contains_key(&name.to_lowercase()),
            "{name} is a change that this test does not know"
        );
    }
    assert!(objects.values().all(|members| !members.is_empty()), "{objects:?}");
    assert_eq!(named_in("### Journal"), objects);
}

/// The links of a page: text, target, and what stands behind it.
fn links(page: &str) -> Vec<(&str, &str, &str)> {
    let link = |(at, _): (usize, &str)| {
        let (target, rest) = page[at + 2..].split_once(')')?;
        let text = &page[page[..at].rfind('[')? + 1..at];
        Some((text, target, rest))
    };
    page.match_indices("](").filter_map(link).collect()
}

/// The attributes of a function, and the comments among them; none where there is no such function.
fn attributes(source: &str, function: &str) -> Option<String> {
    let declared = source.find(&format!("fn {function}("))?;
    let (before, _) = source[..declared].rsplit_once('\n')?;
    let above = before.lines().rev().map(str::trim).take_while(|line| line.starts_with(['#', '/']));
    Some(above.collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_test_that_the_page_of_promises_names_is_one_and_is_run() {
    let page = fs::read_to_string("../docs/PROMISES.md").unwrap();
    let (mut named, mut promises, mut line_before) = (0, 0, "");
    for row in page.lines() {
        let above = std::mem::replace(&mut line_before, row);
        if !row.starts_with("| P") {
            continue;
        }
        assert!(above.starts_with('|'), "in no table: {row}");
        let before = named;
        for (text, target, rest) in links(row) {
            let test = text.trim_matches('`');
            if !target.ends_with(".rs") || test.contains('/') {
                continue;
            }
            let source = fs::read_to_string(Path::new("../docs").join(target));
            let source = source.unwrap_or_else(|e| panic!("{target}: {e}"));
            let attributes = attributes(&source, test).unwrap_or_else(|| panic!("{target} has no {test}"));
            let is_test =
                attributes.lines().any(|line| line == "#[test]" || line.starts_with("#[tokio::test"));
            assert!(is_test, "{test} is no test, but {attributes:?}");
            let ignored = attributes.contains("#[ignore");
            assert_eq!(ignored, rest.starts_with(" (only `make "), "{test}: does the page say who runs it?");
            named += 1;
        }
        assert!(named > before, "no test: {row}");
        let figure = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        assert!(!figure.is_empty() && !row.ends_with("| |"), "neither a figure nor a dash: {row}");
        promises += 1;
    }
    assert!(promises > 25 && named > 60, "only {promises} promises and {named} tests were found");
}

/// Every page of Markdown, but those of folders that are no part of the sources.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "demo-run"].contains(&name.as_str()) {
            pages.extend(self::pages(&path));
        } else if name.ends_with(".md") {
            pages.push(path.canonicalize().unwrap());
        }
    }
    pages
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let mut heading = line.trim_start_matches('#').trim().to_lowercase();
        for (_, target, _) in links(line) {
            heading = heading.replace(&format!("]({})", target.to_lowercase()), "");
        }
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_reached_from_the_readme() {
    let root = Path::new("..").canonicalize().unwrap();
    let mut linked = BTreeMap::new();
    for page in pages(&root) {
        let text = fs::read_to_string(&page).unwrap();
        let mut to = BTreeSet::new();
        for (_, target, _) in links(&text) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let found = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = found.canonicalize().unwrap_or_else(|e| panic!("{}: {target}: {e}", page.display()));
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&found).unwrap());
                assert!(anchors.iter().any(|a| a == anchor), "{}: no {target}", page.display());
            }
            to.insert(found);
        }
        linked.insert(page, to);
    }
    let (mut reached, mut next) = (BTreeSet::new(), vec![root.join("README.md")]);
    while let Some(page) = next.pop() {
        next.extend(linked.get(&page).into_iter().flatten().filter(|to| !reached.contains(*to)).cloned());
        reached.insert(page);
    }
    let orphans: Vec<_> = linked.keys().filter(|page| !reached.contains(*page)).collect();
    assert!(orphans.is_empty(), "no way from README.md to {orphans:?}");
}

/// `sh` marks what a test runs as it stands there, `shell` what nobody runs.
#[test]
fn every_page_with_blocks_that_say_sh_is_run_by_a_test() {
    let mut tests = String::new();
    let mut folders = vec![PathBuf::from("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                tests.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let docs = Path::new("../docs").canonicalize().unwrap();
    let mut run = 0;
    for page in pages(&docs) {
        if fs::read_to_string(&page).unwrap().contains("\n```sh\n") {
            let name = page.strip_prefix(&docs).unwrap().display().to_string();
            assert!(tests.contains(&format!("commands(\"{name}\")")), "no test runs {name}");
            run += 1;
        }
    }
    assert!(run > 4, "only {run} pages");
}
