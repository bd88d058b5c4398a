//! Who a node is, and whom it has met.
//!
//! A data directory has a random incarnation, made once. Every node remembers durably which incarnation it
//! first met under each node number and refuses another one: a member whose disk was wiped has forgotten its
//! votes, and must come back under a new number. One process at a time owns a directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    network::wire::{Hello, WireError},
    types::NodeId,
};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Another process runs on it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It belongs to another node or cluster.
    #[error("{} belongs to {found}, not to {wanted}", path.display())]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who tried to use it.
        wanted: String,
    },
    /// A peer must not be talked to.
    #[error("{0}")]
    Peer(String),
}

/// How a node joins its cluster the first time.
#[derive(Debug, Clone)]
pub enum Membership {
    /// One of a fixed set of URLs, its own included, which found the cluster together.
    Founder(Vec<String>),
    /// Waits to be added.
    Joiner,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Met {
    incarnation: u64,
    name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    format: u32,
    node: NodeId,
    name: String,
    incarnation: u64,
    cluster: Option<u64>,
    met: BTreeMap<NodeId, Met>,
}

/// Identity of the node that runs here.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    meta: Mutex<Meta>,
    detours: BTreeMap<String, String>,
    lock: Mutex<Option<File>>,
}

/// A stable number for a text; never zero, below 2^63.
fn number_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_le_bytes(first) >> 1).max(1)
}

/// Number of a founding member.
#[must_use]
pub fn founder_id(url: &str) -> NodeId {
    number_of(&format!("node {url}"))
}

impl Identity {
    /// Opens the identity in `dir`, or makes one.
    ///
    /// # Errors
    /// When the directory is in use, belongs to someone else, or cannot be read or written.
    pub fn open(dir: &Path, name: &str, url: &str, membership: &Membership) -> Result<Self, IdentityError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(at(dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        lock.try_lock().map_err(|_| IdentityError::InUse(dir.into()))?;
        let path = dir.join("meta");
        let meta = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice::<Meta>(&bytes).map_err(io::Error::from).map_err(at(&path))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let incarnation = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
                let (node, cluster) = match membership {
                    Membership::Joiner => (incarnation.max(1), None),
                    Membership::Founder(urls) => {
                        let mut urls = urls.clone();
                        urls.sort();
                        (founder_id(url), Some(number_of(&format!("cluster {}", urls.join(" ")))))
                    }
                };
                let meta =
                    Meta { format: 1, node, name: name.into(), incarnation, cluster, met: BTreeMap::new() };
                save(&path, &meta).map_err(at(&path))?;
                meta
            }
            Err(error) => return Err(at(&path)(error)),
        };
        if meta.name != name {
            let (found, wanted) = (format!("node '{}'", meta.name), format!("node '{name}'"));
            return Err(IdentityError::Mismatch { path: dir.into(), found, wanted });
        }
        Ok(Self { path, meta: Mutex::new(meta), detours: BTreeMap::new(), lock: Mutex::new(Some(lock)) })
    }

    /// Lets another process, or another node in this one, have the directory. Only after the last write to it.
    pub(crate) fn release(&self) {
        self.lock.lock().take();
    }

    /// With other addresses at which some peers are reached, by their public URLs.
    #[must_use]
    pub fn with_detours(self, detours: BTreeMap<String, String>) -> Self {
        Self { detours, ..self }
    }

    /// Where the peer with this public URL is reached from here.
    pub(crate) fn route<'a>(&'a self, url: &'a str) -> &'a str {
        self.detours.get(url).map_or(url, String::as_str)
    }

    /// Number of this node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.meta.lock().node
    }

    /// Name of this node.
    #[must_use]
    pub fn name(&self) -> String {
        self.meta.lock().name.clone()
    }

    /// Random number of this data directory.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.meta.lock().incarnation
    }

    /// Number of the cluster, once known.
    #[must_use]
    pub fn cluster(&self) -> Option<u64> {
        self.meta.lock().cluster
    }

    /// Name of a node, if it was ever met.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<String> {
        let meta = self.meta.lock();
        if node == meta.node {
            Some(meta.name.clone())
        } else {
            meta.met.get(&node).map(|met| met.name.clone())
        }
    }

    pub(crate) fn hello(&self, to: NodeId) -> Result<Hello, WireError> {
        let meta = self.meta.lock();
        if to == meta.node {
            return Err(WireError::Refused("a node does not talk to itself".into()));
        }
        let cluster =
            meta.cluster.ok_or_else(|| WireError::Refused("this node has no cluster yet".into()))?;
        Ok(Hello { cluster, from: meta.node, name: meta.name.clone(), incarnation: meta.incarnation, to })
    }

    /// Judges a peer that knocked; a joiner adopts the cluster of the first.
    pub(crate) fn accept(&self, hello: &Hello) -> Result<(), IdentityError> {
        {
            let mut meta = self.meta.lock();
            if hello.to != meta.node {
                return Err(IdentityError::Peer(format!("this is node {}, not {}", meta.node, hello.to)));
            }
            match meta.cluster {
                Some(cluster) if cluster != hello.cluster => {
                    let text = format!("this node belongs to cluster {cluster}, not to {}", hello.cluster);
                    return Err(IdentityError::Peer(text));
                }
                Some(_) => {}
                None => {
                    meta.cluster = Some(hello.cluster);
                    self.save(&meta)?;
                }
            }
        }
        self.meet(hello).map_err(|error| IdentityError::Peer(error.to_string()))
    }

    /// Remembers a peer, or refuses it when another one was known under its number.
    pub(crate) fn meet(&self, hello: &Hello) -> Result<(), WireError> {
        let mut meta = self.meta.lock();
        match meta.met.get(&hello.from) {
            Some(met) if met.incarnation != hello.incarnation => Err(WireError::Refused(format!(
                "node {} ({}) lost its data directory; remove it and add it again with --join",
                hello.from, met.name
            ))),
            Some(_) => Ok(()),
            None => {
                let met = Met { incarnation: hello.incarnation, name: hello.name.clone() };
                meta.met.insert(hello.from, met);
                self.save(&meta).map_err(|error| WireError::Io(io::Error::other(error)))
            }
        }
    }

    fn save(&self, meta: &Meta) -> Result<(), IdentityError> {
        save(&self.path, meta).map_err(|source| IdentityError::Io { path: self.path.clone(), source })
    }
}

fn save(path: &Path, meta: &Meta) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(meta)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
