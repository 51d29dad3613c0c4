//! Pages of the documentation whose commands are run as they are written.

use std::{fs, path::Path};

/// The commands of a page below `docs`, in order, each block with its line in front. Only blocks that say `sh` are meant: those that
/// say `shell` are shown and not run.
pub fn commands(page: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let page = fs::read_to_string(page).expect("the page is there");
    let mut script = String::new();
    let mut inside = false;
    for (number, line) in (1..).zip(page.lines()) {
        match line {
            "```sh" => {
                inside = true;
                script.push_str(&format!("echo '== line {number}' >&2\n"));
            }
            "```" => inside = false,
            line if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}
