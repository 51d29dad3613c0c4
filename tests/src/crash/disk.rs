//! A disk whose power can be cut: an ext4 file system in an image file, mounted through a loop device.
//!
//! What a program has written and not synced lies in the page cache of this file system and not in the image; a copy of the
//! image is the disk after the power went. Two things it does not show: a device that reorders writes, and a write that is
//! torn in the device: the programs stand still while it is copied. Needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Large enough for a log of some thousand leaves.
const SIZE: u64 = 96 * 1024 * 1024;
/// Nothing is written back by itself within a round: the journal's commits are 60 s apart, and the kernel's writeback begins
/// after 30 s. Without discard, a copy is as sparse as the image.
const OPTIONS: &str = "loop,commit=60,noatime";

/// The image as the last cut has left it, for people to look at.
const AS_CUT: &str = "as-cut.img";

/// The mounted disk. Dropping it unmounts it, and leaves the image.
pub(crate) struct Disk {
    images: PathBuf,
    /// How often the power was cut.
    cuts: u64,
    place: PathBuf,
}

impl Disk {
    /// A new disk, whose images lie in one folder, and which is mounted on another.
    pub(crate) fn make(images: &Path, place: &Path) -> Result<Self, String> {
        fs::create_dir_all(images).and_then(|()| fs::create_dir_all(place)).map_err(|e| e.to_string())?;
        let disk = Self { images: images.to_owned(), cuts: 0, place: place.to_owned() };
        let made = fs::File::create(disk.image(0)).and_then(|file| file.set_len(SIZE));
        made.map_err(|e| e.to_string())?;
        // The inode tables are made now, not by the kernel in the middle of a round.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", options]).arg(disk.image(0)))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Cuts the power: what the image has now is mounted in the place of what was there. No process may have a file open
    /// on it when `end_all` has returned; until then none may write.
    pub(crate) fn cut(&mut self, end_all: impl FnOnce()) -> Result<(), String> {
        let (old, new) = (self.image(self.cuts), self.image(self.cuts + 1));
        copy(&old, &new)?;
        end_all();
        copy(&new, &self.images.join(AS_CUT))?;
        // Its dirty pages go with it.
        fs::remove_file(&old).map_err(|e| e.to_string())?;
        run(Command::new("umount").arg(&self.place))?;
        self.cuts += 1;
        self.mount()
    }

    /// Syncs everything on it.
    pub(crate) fn sync(&self) {
        let disk = fs::File::open(&self.place).unwrap();
        rustix::fs::syncfs(disk).unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        let image = self.image(self.cuts);
        run(Command::new("mount").args(["-t", "ext4", "-o", OPTIONS]).arg(image).arg(&self.place))
    }

    fn image(&self, cuts: u64) -> PathBuf {
        self.images.join(format!("{cuts}.img"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("umount").arg(&self.place)) {
            eprintln!("{why}");
        }
    }
}

/// Why no power can be cut on this machine, if that is so. Panics if it can, and shows nothing: if what was not synced is
/// there afterwards, or what was is not.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".to_owned());
    }
    match control() {
        Ok(left) => {
            assert_eq!(left, SYNCED_ALONE, "what a cut has left of a synced write and of another one");
            None
        }
        Err(why) => Some(format!("no power can be cut here: {why}")),
    }
}

/// What a cut leaves in a file that was synced, and in one that was not.
const SYNCED_ALONE: [&str; 2] = ["new", ""];

/// What a cut has left of a synced write and of another one; an error if there can be no disk here.
fn control() -> Result<[String; 2], String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let place = folder.path().join("disk");
    let mut disk = Disk::make(&folder.path().join("images"), &place)?;
    fs::write(place.join("synced"), "old").unwrap();
    disk.sync();
    for name in ["synced", "unsynced"] {
        fs::write(place.join(name), "new").unwrap();
    }
    fs::File::open(place.join("synced")).unwrap().sync_data().unwrap();
    disk.cut(|| ())?;
    Ok(["synced", "unsynced"].map(|name| fs::read_to_string(place.join(name)).unwrap_or_default()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    run(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).args([from, to]))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cut_keeps_what_was_synced_and_loses_what_was_not() {
        if let Some(why) = super::missing() {
            hsm_sim::skip(format_args!("{why}"));
        }
    }
}
