//! Which user of the system PostgreSQL runs as, and files that belong to that user. PostgreSQL refuses root, so a
//! process of root's hands it to an unprivileged user; anybody else runs it as oneself.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    path::Path,
};

use nix::{
    fcntl::OFlag,
    unistd::{Gid, Uid, User, getgrouplist},
};

use crate::error::{Error, at};

#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
    /// Root acts for somebody else, who must be given what is made.
    pub(crate) delegated: bool,
}

impl Owner {
    /// The owner of `data` where that exists, since PostgreSQL insists on it; else, as root, `wanted`, `postgres` or
    /// `nobody`, in this order.
    pub(crate) fn choose(data: &Path, wanted: Option<&str>) -> Result<Self, Error> {
        let here = Uid::effective();
        let data_owner = fs::metadata(data).ok().map(|meta| meta.uid());
        if !here.is_root() {
            if let Some(uid) = data_owner.filter(|uid| *uid != here.as_raw()) {
                return Err(Error::OtherOwner {
                    dir: data.to_owned(),
                    owner: name_of(uid),
                    here: name_of(here.as_raw()),
                });
            }
            let gid = Gid::effective().as_raw();
            return Ok(Self { uid: here.as_raw(), gid, name: name_of(here.as_raw()), delegated: false });
        }
        let user = match (data_owner.filter(|uid| *uid != 0), wanted) {
            (Some(uid), _) => User::from_uid(Uid::from_raw(uid))
                .ok()
                .flatten()
                .ok_or_else(|| Error::NoSuchUser(uid.to_string()))?,
            (None, Some(name)) => by_name(name)?,
            (None, None) => by_name("postgres").or_else(|_| by_name("nobody"))?,
        };
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name, delegated: true })
    }

    /// A folder of the owner's that nobody else can enter.
    pub(crate) fn private_dir(&self, path: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) if self.delegated => {
                lchown(path, Some(self.uid), Some(self.gid)).map_err(at("hand over", path))
            }
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(at("create", path)(error)),
        }
    }

    /// True for a real folder, the owner's, whose mode has no bit set for group and others: nobody planted it.
    pub(crate) fn owns_privately(&self, path: &Path) -> bool {
        fs::symlink_metadata(path)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == self.uid && meta.mode().trailing_zeros() >= 6)
    }

    /// The first folder on the way to `path` (absolute) that the owner cannot pass. Root passes everywhere, the user
    /// it delegates to may not.
    pub(crate) fn check_way_to(&self, path: &Path) -> Result<(), Error> {
        if !self.delegated {
            return Ok(());
        }
        let name = std::ffi::CString::new(self.name.as_str()).unwrap_or_default();
        let groups = getgrouplist(&name, Gid::from_raw(self.gid)).unwrap_or_default();
        let mut way: Vec<_> = path.ancestors().collect();
        way.reverse();
        for folder in way {
            let meta = fs::metadata(folder).map_err(at("look at", folder))?;
            let needed = if meta.uid() == self.uid {
                0o100
            } else if groups.contains(&Gid::from_raw(meta.gid())) {
                0o010
            } else {
                0o001
            };
            if meta.mode() & needed == 0 {
                return Err(Error::NotTraversable { path: folder.to_owned(), user: self.name.clone() });
            }
        }
        Ok(())
    }
}

/// Opens (or makes, mode 0600) a file in `dir`, for whoever owns `dir`. Links are not followed: root must not be led
/// to another file by the owner of the folder.
pub(crate) fn private_file(dir: &Path, name: &str, append: bool) -> Result<File, Error> {
    let path = dir.join(name);
    let file = OpenOptions::new()
        .create(true)
        .read(!append)
        .write(!append)
        .append(append)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(at("open", &path))?;
    if Uid::effective().is_root() {
        let meta = fs::metadata(dir).map_err(at("look at", dir))?;
        fchown(&file, Some(meta.uid()), Some(meta.gid())).map_err(at("hand over", &path))?;
    }
    Ok(file)
}

fn by_name(name: &str) -> Result<User, Error> {
    User::from_name(name).ok().flatten().ok_or_else(|| Error::NoSuchUser(name.to_owned()))
}

fn name_of(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let closed = root.path().canonicalize().expect("a path").join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).expect("folders");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).expect("open to pass");
        let stranger = Owner { uid: 4_000_000, gid: 4_000_000, name: "stranger".into(), delegated: true };

        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
        let error = stranger.check_way_to(&inner).expect_err("nobody passes");
        assert!(matches!(&error, Error::NotTraversable { path, .. } if *path == closed), "{error}");
        assert!(error.to_string().contains("chmod o+x"), "{error}");

        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("open to pass");
        stranger.check_way_to(&inner).expect("all may pass");
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("target");
        fs::write(&target, "untouched").expect("a file");
        std::os::unix::fs::symlink(&target, dir.path().join("lock")).expect("a link");
        assert!(private_file(dir.path(), "lock", false).is_err());
    }
}
