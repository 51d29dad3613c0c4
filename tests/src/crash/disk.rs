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

/// Why no disk can be made here, if that is so: on a disk whose power was cut, what was synced is there, and what was not
/// is lost.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".to_owned());
    }
    control().err().map(|why| format!("no power can be cut here: {why}"))
}

/// The control of the rig itself.
fn control() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let place = folder.path().join("disk");
    let mut disk = Disk::make(&folder.path().join("images"), &place)?;
    let write = |name: &str, text: &str| fs::write(place.join(name), text).map_err(|e| e.to_string());
    let sync =
        |name: &str| fs::File::open(place.join(name)).and_then(|f| f.sync_all()).map_err(|e| e.to_string());
    write("synced", "old")?;
    sync("synced")?;
    sync("")?;
    write("synced", "new")?;
    sync("synced")?;
    write("unsynced", "new")?;
    disk.cut(|| ())?;
    let read = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
    match (read("synced").as_str(), read("unsynced").as_str()) {
        ("new", "") => Ok(()),
        (synced, unsynced) => {
            Err(format!("of a synced write {synced:?} was left, of an unsynced one {unsynced:?}"))
        }
    }
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
        if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/loop-control").exists() {
            hsm_sim::skip(format_args!("cutting the power needs root and loop devices"));
            return;
        }
        super::control().unwrap();
    }
}
